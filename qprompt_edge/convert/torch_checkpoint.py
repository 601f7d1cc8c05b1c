"""Checkpoints of torch, read without torch and without running anything.

`torch.save` writes a zip archive: `<name>/data.pkl` describes the tensors (see `torch_pickle`),
`<name>/data/<key>` holds the numbers of each storage, uncompressed and little-endian. Only the tensors that a
prompt needs are read, each after its bounds are checked, so a checkpoint with a whole CLIP in it costs no
more than its prompt.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.convert.torch_pickle import TensorRecord, read_pickle
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import CheckpointError
from qprompt_runtime.prompt_group import MAX_DIMENSIONS, MAX_GROUP_SIZE
from qprompt_runtime.text import printable

__all__ = ["CheckpointError", "State", "finite", "read_checkpoint"]


ZIP_START = b"PK\x03\x04"
MAX_PICKLE_BYTES = 2**20
"""MaPLe on ViT-B/16, with its optimizer and scheduler, has 83 KB."""
MAX_STORAGE_BYTES = 8 * MAX_GROUP_SIZE
MAX_DIRECTORY_BYTES = 2**22
"""Of the archive's list of members: MaPLe on ViT-B/16 has 323, of less than 100 bytes each."""
_STATES = ("state_dict", "model_state_dict", "model", "module")
_CHECKPOINT = re.compile(r"\.(pth|pt|ckpt|qpt|safetensors|bin)([.-][^/]*)?$|/?data\.pkl$", re.IGNORECASE)
_BLOCK = 2**20
_BYTE_ORDER_BYTES = 16
_FLOATS = {"float16": "<f2", "bfloat16": "<u2", "float32": "<f4", "float64": "<f8"}


@dataclass(frozen=True)
class State:
    """A state dict whose tensors are read one by one.

    Attributes:
        names: Of all its tensors.
        load: Reads the tensor of a name as float32; raises a `QPromptError` if it is damaged.
    """

    names: frozenset[str]
    load: Callable[[str], Array]


class _Pieces(io.BufferedReader):
    """A file that gives no large piece at once: zipfile reads the list of members, however long, in one."""

    def read(self, size: int | None = -1, /) -> bytes:
        most = MAX_DIRECTORY_BYTES + 1
        data = super().read(most if size is None or size < 0 else min(size, most))
        if len(data) == most:
            raise CheckpointError(f"its list of members is over {MAX_DIRECTORY_BYTES} bytes long")
        return data


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open archive; every error while it is open becomes one of ours."""
    try:
        with _Pieces(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:  # zipfile raises a dozen types for a damaged archive
        reason = printable(str(error) or type(error).__name__)[:120]
        raise CheckpointError(f"it cannot be read as a zip archive: {reason}") from error


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Content of a member, if it is stored uncompressed and has at most `limit` bytes."""
    info = archive.NameToInfo.get(name)
    if info is None:
        raise CheckpointError(f"its member {printable(name)[:120]} is missing")
    if info.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(
            f"its member {printable(name)[:120]} is compressed, which torch.save never does"
        )
    if info.file_size > limit:
        raise CheckpointError(
            f"its member {printable(name)[:120]} has {info.file_size} bytes, expected up to {limit}"
        )
    with archive.open(info) as file:
        return b"".join(iter(lambda: file.read(_BLOCK), b""))


def _root(archive: zipfile.ZipFile) -> str:
    """The folder of the pickle inside of the archive, with its slash."""
    names = archive.NameToInfo
    roots = [
        name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    if not roots and names:
        raise CheckpointError(_no_checkpoint(sorted(names)))
    if len(roots) != 1:
        raise CheckpointError(
            f"it holds {len(roots)} pickles of the name data.pkl, expected one as torch.save writes it"
        )
    if f"{roots[0]}constants.pkl" in names:
        raise CheckpointError(
            "it is a TorchScript program, expected weights; save its state_dict() with torch.save"
        )
    order = f"{roots[0]}byteorder"
    if order in names and _member(archive, order, _BYTE_ORDER_BYTES) != b"little":
        raise CheckpointError(
            "its numbers are big-endian; save it anew with torch.save on a little-endian machine"
        )
    return roots[0]


def _no_checkpoint(names: list[str]) -> str:
    """What a zip archive is that `torch.save` did not write."""
    if any(name.rpartition("/")[2] == "manifest.json" for name in names):
        return "it is a zip archive with a backbone's bundle; `qprompt-edge backbones add FILE` installs it"
    inner = next((name for name in names if _CHECKPOINT.search(name)), None)
    if inner is not None:
        return (
            f"it is a zip archive around a checkpoint; unpack it, and give {printable(inner)[:120]} from it"
        )
    return (
        f"it is a zip archive of {len(names)} files, none of them data.pkl as torch.save writes it; the "
        f"first is {printable(names[0])[:120]}"
    )


def read_checkpoint(path: Path) -> State:
    """The state dict in a file that `torch.save` (1.6 or newer) wrote.

    It may stand alone, or under `state_dict` (Dassl) or the like.

    Args:
        path: The file. Nobody needs to vouch for it.

    Raises:
        CheckpointError: The file is damaged or hostile, holds no tensors, or names anything that weights do
            not need. `State.load` raises it for a tensor that cannot be read.
    """
    with _archive(path) as archive:
        root = _root(archive)
        content = read_pickle(_member(archive, f"{root}data.pkl", MAX_PICKLE_BYTES))
        if isinstance(content, dict):
            inner = (content[name] for name in _STATES if isinstance(content.get(name), dict))
            content = next(inner, content)
        if not isinstance(content, dict):
            raise CheckpointError(f"it holds a {type(content).__name__}, expected a state dict")
        records = {
            key: value
            for key, value in content.items()
            if isinstance(key, str) and isinstance(value, TensorRecord)
        }
        if not records:
            raise CheckpointError("it holds no tensor by a name, expected a state dict")

    def load(name: str) -> Array:
        with _archive(path) as archive:
            return _read_tensor(archive, root, name, records[name])

    return State(frozenset(records), load)


def _read_tensor(archive: zipfile.ZipFile, root: str, name: str, record: TensorRecord) -> Array:
    """One tensor as float32, in its shape; its bounds are checked before anything is read."""
    storage, shown = record.storage, printable(name)[:120]
    if storage.dtype not in _FLOATS:
        raise CheckpointError(f"{shown} has numbers of type {storage.dtype}, expected {', '.join(_FLOATS)}")
    good = 1 <= len(record.shape) <= MAX_DIMENSIONS and all(1 <= n <= MAX_GROUP_SIZE for n in record.shape)
    if not good or math.prod(record.shape) > MAX_GROUP_SIZE:
        raise CheckpointError(
            f"{shown} is not of 1 to {MAX_DIMENSIONS} dimensions, each 1 or more, with up to "
            f"{MAX_GROUP_SIZE} numbers"
        )
    last = record.offset + sum((n - 1) * step for n, step in zip(record.shape, record.strides, strict=True))
    good = record.offset >= 0 and min(record.strides) >= 0 and last < storage.count
    if not good or math.prod(record.shape) > storage.count:  # the second: numbers that a stride of 0 repeats
        raise CheckpointError(f"{shown} reaches beyond its storage of {storage.count} numbers")
    numbers = np.dtype(_FLOATS[storage.dtype])
    data = _member(archive, f"{root}data/{storage.key}", MAX_STORAGE_BYTES)
    if len(data) != storage.count * numbers.itemsize:
        expected = f"expected {numbers.itemsize} for each of its {storage.count} numbers"
        raise CheckpointError(f"the storage of {shown} has {len(data)} bytes, {expected}")
    flat = np.frombuffer(data, numbers)
    pairs = zip(record.shape, record.strides, strict=True)
    steps = tuple(step * numbers.itemsize if n > 1 else 0 for n, step in pairs)
    view = np.lib.stride_tricks.as_strided(flat[record.offset :], record.shape, steps, writeable=False)
    if storage.dtype == "bfloat16":  # the upper half of a float32
        return finite((view.astype("<u4") << 16).view("<f4"), shown)
    return finite(view, shown)


def finite(values: NDArray[np.floating], name: str) -> Array:
    """Numbers as float32 of their own memory.

    Raises:
        CheckpointError: One is infinite or not a number, perhaps only as float32.
    """
    with np.errstate(over="ignore"):
        result = np.array(values, np.float32)
    if not np.isfinite(result).all():
        raise CheckpointError(
            f"{name} holds numbers that are infinite or not a number; the training has diverged"
        )
    return result
