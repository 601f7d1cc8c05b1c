"""A prompt as a safetensors file and back, for tools that know arrays but not `.qpt`.

Every group is a float32 tensor named by its role (`text-context`, `image-prompts`). Everything else stands in the header's metadata, as JSON under the one name `qprompt`: the library
writes several names in no fixed order, and the same prompt shall be the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from qprompt_edge.convert.torch_checkpoint import State, finite
from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import CheckpointError, PromptFileError
from qprompt_runtime.prompt_envelope import parts, require, typed
from qprompt_runtime.prompt_file import Calibration, ClassName, PromptFile
from qprompt_runtime.text import printable

METADATA = "qprompt"
VERSION = 1
_FLOATS = ("F16", "F32", "F64")
_BITS = (*range(1, 9), 16, 32)
_KEYS = {
    "version",
    "method",
    "bits",
    "classes",
    "template",
    "backbone",
    "fingerprint",
    "calibration",
    "metadata",
}


def to_safetensors(prompt: PromptFile) -> bytes:
    """The content of a safetensors file: dequantized weights, and what the prompt says beside them."""
    header = {
        "version": VERSION,
        "method": prompt.method,
        "bits": [[group.role, group.bits] for group in prompt.groups],
        "classes": [[name.label, name.text] for name in prompt.classes],
        "template": list(prompt.template),
        "backbone": prompt.backbone_name,
        "fingerprint": prompt.fingerprint.hex(),
        "calibration": {"logit_scale": float(prompt.calibration.logit_scale)},
        "metadata": dict(sorted(prompt.metadata.items())),
    }
    tensors = {group.role: group.values() for group in prompt.groups}
    return bytes(save(tensors, {METADATA: json.dumps(header)}))


def read_safetensors(path: Path, bits: int | None = None) -> PromptFile | State:
    """What a safetensors file holds: a prompt if `to_safetensors` wrote it, else tensors by name.

    Args:
        path: The file. Nobody needs to vouch for it.
        bits: Bits a weight for a prompt's groups; by default those that the file names.

    Raises:
        CheckpointError: The file is damaged. So does `State.load` for a tensor that is not of floats.
        PromptFileError: What it says of its prompt breaks the rules of prompt files.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get(METADATA)
            names = frozenset(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"it is a damaged safetensors file: {printable(str(error))[:120]}") from error
    state = State(names, lambda name: _load(path, name))
    return state if header is None else _prompt(header, state, bits)


def _load(path: Path, name: str) -> Array:
    """One tensor as float32; its memory is in proportion to the file, where it stands uncompressed."""
    shown = printable(name)[:120]
    try:
        with safe_open(path, framework="numpy") as file:
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _FLOATS:
                raise CheckpointError(f"{shown} has numbers of type {dtype}, expected {', '.join(_FLOATS)}")
            return finite(file.get_tensor(name), shown)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{shown} cannot be read: {printable(str(error))[:120]}") from error


def _prompt(header: str, state: State, bits: int | None) -> PromptFile:
    try:
        said = typed(dict, json.loads(header), "the header")
    except (ValueError, RecursionError) as error:
        raise PromptFileError(
            f"the header's {METADATA!r} is not JSON: {printable(str(error))[:120]}"
        ) from error
    require(
        set(said) == _KEYS, "the list of the header's keys", sorted(map(str, said))[:20], f"{sorted(_KEYS)}"
    )
    require(said["version"] == VERSION, "the header's version", repr(said["version"])[:40], str(VERSION))
    entries = [parts(entry, 2, "a tensor's bits") for entry in typed(list, said["bits"], "the header's bits")]
    roles = [typed(str, role, "a tensor's name") for role, _ in entries]
    widths = [typed(int, width, "a tensor's bits") for _, width in entries]
    good = sorted(roles) == sorted(state.names)
    require(good, "the list of tensors", sorted(state.names)[:8], f"{roles[:8]}, as the header says")
    require(all(width in _BITS for width in widths), "the bits", widths[:8], f"numbers of {list(_BITS)}")
    calibration = typed(dict, said["calibration"], "the calibration")
    good = set(calibration) == {"logit_scale"}
    require(good, "the calibration's keys", sorted(map(str, calibration))[:4], "logit_scale alone")
    before, after = _texts(said["template"], 2, "the template")
    metadata = typed(dict, said["metadata"], "the metadata")
    return PromptFile(
        method=typed(str, said["method"], "the method"),
        groups=tuple(
            make_group(role, state.load(role), bits or width)
            for role, width in zip(roles, widths, strict=True)
        ),
        classes=tuple(
            ClassName(*_texts(entry, 2, "a class")) for entry in typed(list, said["classes"], "the classes")
        ),
        template=(before, after),
        backbone_name=typed(str, said["backbone"], "the backbone's name"),
        fingerprint=_fingerprint(said["fingerprint"]),
        calibration=Calibration(typed(float, calibration["logit_scale"], "the logit scale")),
        metadata={key: typed(str, value, "a metadata value") for key, value in metadata.items()},
    )


def _texts(value: Any, count: int, what: str) -> list[str]:
    return [typed(str, text, what) for text in parts(value, count, what)]


def _fingerprint(value: Any) -> bytes:
    text = typed(str, value, "the fingerprint")
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise PromptFileError(f"the fingerprint is {text[:40]!r}, expected 32 hexadecimal digits") from error
