"""A prompt as a safetensors file and back, for tools that know arrays but not `.qpt`.

Every group is a float32 tensor named by its role (`text-context`, `class-residuals`), its rows times their
scales. Everything else is in the header's metadata, as JSON under the one name `qprompt`. The library writes
several names in no fixed order, and the same prompt must give the same bytes. The header has the format
version of the prompt; version 1 has no scales, rows, accept scores, photos and extras.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from qprompt_edge.convert.regroup import bits_for, changed, regrouped
from qprompt_edge.convert.torch_checkpoint import State, finite
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import CheckpointError, PromptFileError
from qprompt_runtime.packing import TERNARY
from qprompt_runtime.prompt_envelope import parts, require, typed
from qprompt_runtime.prompt_file import Calibration, ClassName, PromptFile, PromptGroup
from qprompt_runtime.prompt_keys import EXTRA_KEYS
from qprompt_runtime.text import printable

METADATA = "qprompt"
_FLOATS = ("F16", "F32", "F64")
_BITS = (*range(1, 9), TERNARY, 16, 32)
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
T = TypeVar("T")
_KEYS_OF_2 = {"scales", "rows", "photos", "extras"}


def to_safetensors(prompt: PromptFile) -> bytes:
    """The content of a safetensors file: dequantized weights, and what the prompt says beside them."""
    calibration = prompt.calibration
    header: dict[str, Any] = {
        "version": prompt.format_version,
        "method": prompt.method,
        "bits": [[group.role, group.bits] for group in prompt.groups],
        "classes": [[name.label, name.text] for name in prompt.classes],
        "template": list(prompt.template),
        "backbone": prompt.backbone_name,
        "fingerprint": prompt.fingerprint.hex(),
        "calibration": {"logit_scale": float(calibration.logit_scale)},
        "metadata": dict(sorted(prompt.metadata.items())),
    }
    if prompt.format_version > 1:
        header["calibration"] |= {
            "accept_scores": list(calibration.accept_scores),
            "accept": calibration.accept,
        }
        header |= {
            "scales": [list(group.scales) for group in prompt.groups],
            "rows": [list(group.rows) for group in prompt.groups],
            "photos": list(prompt.photos),
            "extras": {str(key): value.hex() for key, value in sorted(prompt.extras.items())},
        }
    tensors = {group.role: group.values() for group in prompt.groups}
    return bytes(save(tensors, {METADATA: json.dumps(header)}))


def read_safetensors(path: Path, bits: float | None = None) -> PromptFile | State:
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


def _prompt(header: str, state: State, bits: float | None) -> PromptFile:
    try:
        said = typed(dict, json.loads(header), "the header")
    except (ValueError, RecursionError) as error:
        raise PromptFileError(
            f"the header's {METADATA!r} is not JSON: {printable(str(error))[:120]}"
        ) from error
    version = said.get("version")
    good = type(version) is int and version in (1, 2)
    require(good, "the header's version", repr(version)[:40], "1 or 2")
    keys = _KEYS if version == 1 else _KEYS | _KEYS_OF_2
    good = set(said) == keys
    require(good, "the list of the header's keys", sorted(map(str, said))[:20], f"{sorted(keys)}")
    before, after = _texts(said["template"], 2, "the template")
    metadata = typed(dict, said["metadata"], "the metadata")
    prompt = PromptFile(
        method=typed(str, said["method"], "the method"),
        groups=_groups(said, state, bits),
        classes=tuple(
            ClassName(*_texts(entry, 2, "a class")) for entry in typed(list, said["classes"], "the classes")
        ),
        template=(before, after),
        backbone_name=typed(str, said["backbone"], "the backbone's name"),
        fingerprint=_hex(typed(str, said["fingerprint"], "the fingerprint"), "the fingerprint"),
        calibration=_calibration(said),
        metadata={key: typed(str, value, "a metadata value") for key, value in metadata.items()},
        photos=tuple(_numbers(int, said.get("photos", []), "the photos")),
        extras=_extras(said.get("extras", {})),
        format_version=said["version"],
    )
    own = [width for _, width in said["bits"]]
    return prompt if own == [group.bits for group in prompt.groups] else changed(prompt)


def _groups(said: dict[str, Any], state: State, bits: float | None) -> tuple[PromptGroup, ...]:
    """The groups that the header names, of the tensors."""
    entries = [parts(entry, 2, "a tensor's bits") for entry in typed(list, said["bits"], "the header's bits")]
    roles = [typed(str, role, "a tensor's name") for role, _ in entries]
    widths = [width if width == TERNARY else typed(int, width, "a tensor's bits") for _, width in entries]
    good = sorted(roles) == sorted(state.names)
    require(good, "the list of tensors", sorted(state.names)[:8], f"{roles[:8]}, as the header says")
    require(all(width in _BITS for width in widths), "the bits", widths[:8], f"numbers of {list(_BITS)}")
    none: list[Any] = [[] for _ in roles]
    scales = parts(said.get("scales", none), len(roles), "the header's scales")
    rows = parts(said.get("rows", none), len(roles), "the header's rows")
    return tuple(
        regrouped(
            role,
            state.load(role),
            bits_for(role, width, bits),
            _numbers(float, factors, "a group's scales"),
            _numbers(int, owners, "a group's rows"),
        )
        for role, width, factors, owners in zip(roles, widths, scales, rows, strict=True)
    )


def _calibration(said: dict[str, Any]) -> Calibration:
    found = typed(dict, said["calibration"], "the calibration")
    keys = {"logit_scale"} if said["version"] == 1 else {"logit_scale", "accept_scores", "accept"}
    good = set(found) == keys
    require(good, "the calibration's keys", sorted(map(str, found))[:4], f"{sorted(keys)} alone")
    scores = _numbers(float, found.get("accept_scores", []), "the accept scores")
    accept = found.get("accept")
    return Calibration(
        typed(float, found["logit_scale"], "the logit scale"),
        tuple(scores),
        accept if accept is None else typed(float, accept, "the share that is accepted"),
    )


def _numbers(kind: type[T], value: Any, what: str) -> list[T]:
    return [typed(kind, number, f"a number of {what}") for number in typed(list, value, what)]


def _extras(value: Any) -> dict[int, bytes]:
    """Keys are in decimal digits, values in hexadecimal ones."""
    found = typed(dict, value, "the extras")
    unknown = [key for key in found if key not in map(str, EXTRA_KEYS)]
    require(not unknown, "the list of the extras' keys", unknown[:8], "only keys of 17 to 22")
    return {int(key): _hex(typed(str, text, "an extra"), "an extra") for key, text in found.items()}


def _texts(value: Any, count: int, what: str) -> list[str]:
    return [typed(str, text, what) for text in parts(value, count, what)]


def _hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise PromptFileError(f"{what} is {text[:40]!r}, expected hexadecimal digits") from error
