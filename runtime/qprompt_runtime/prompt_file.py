"""The prompt file (.qpt): what a training leaves, in a few hundred bytes.

`docs/prompt-file.md` specifies the format; `prompt_envelope` turns its bytes into a map of fields and back, and this
module gives the fields their meaning. Every part checks itself when it is made, whether by a program or from a file.

A prompt has exactly one encoding, so the last check of the reader is to write what it has understood and to compare
the bytes. Whatever the checks before do not look at (keys out of order or given twice, lengths in a long form, an
empty metadata map, a prompt text that the label's rule would give) ends there.

A group of weights is either quantized (`bits` 1 to 8: a codebook and packed indices) or plain (`bits` 16 or 32:
floats). Both keep the bytes of the file as `data`, and `values()` gives the weights of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.prompt_envelope import (
    MAX_FILE_BYTES,
    decode_fields,
    encode_fields,
    name_of,
    number_of,
    parts,
    require,
    typed,
)
from qprompt_runtime.prompt_group import ROLES, PromptGroup, decode_group, encode_group
from qprompt_runtime.text import counted, printable

__all__ = [
    "Calibration",
    "ClassName",
    "PromptFile",
    "PromptGroup",
    "read_prompt_file",
    "rule_text",
    "write_prompt_file",
]

CONTEXT, FOLDED, COUPLED = "qcoop", "qmaple", "qmaple-coupled"
METHODS = {1: CONTEXT, 2: FOLDED, 3: COUPLED}
DEEP_METHODS = FOLDED, COUPLED
"""Those that need a `DeepBackbone`."""
_SECOND_ROLES = {FOLDED: ROLES[1], COUPLED: ROLES[2]}

MAX_GROUPS = 8
MAX_CLASSES = 100_000
MAX_TEXT_BYTES = 1000
MAX_METADATA = 64
# 100 for CLIP. cbor2 5.x does not write floats of 32,768 and more in their shortest form; this stays below.
MAX_CALIBRATION = 10_000.0


@dataclass(frozen=True)
class ClassName:
    """A class: `label` is what a prediction prints, `text` is what stands in the prompt."""

    label: str
    text: str

    def __post_init__(self) -> None:
        _check_text("a class label", self.label)
        _check_text("the prompt text of a class", self.text)

    @classmethod
    def from_label(cls, label: str) -> ClassName:
        """Make a class whose prompt text follows from its label."""
        return cls(label, rule_text(label))


def rule_text(label: str) -> str:
    """Return the prompt text of a class that was given none: `_` and `-` become spaces."""
    return label.replace("_", " ").replace("-", " ")


@dataclass(frozen=True)
class Calibration:
    """Probabilities are softmax(logit_scale * cosine)."""

    logit_scale: float

    def __post_init__(self) -> None:
        good = 0 < self.logit_scale <= MAX_CALIBRATION
        require(good, "the logit scale", self.logit_scale, f"above 0 and up to {MAX_CALIBRATION:g}")


@dataclass(frozen=True, repr=False)
class PromptFile:
    """Everything that a prompt file says.

    Attributes:
        method: One of `METHODS`.
        groups: The weights.
        classes: In the order of the class features; a class-specific context [C, n, D] has this order too.
        template: The text before and after the class's prompt text, for instance ("", ".").
        backbone_name: For people.
        fingerprint: 16 bytes that identify the backbone.
        calibration: The logit scale.
        metadata: Free text by name, usually empty.

    Raises:
        PromptFileError: On construction, if a part breaks the format or contradicts another.
    """

    method: str
    groups: tuple[PromptGroup, ...]
    classes: tuple[ClassName, ...]
    template: tuple[str, str]
    backbone_name: str
    fingerprint: bytes
    calibration: Calibration
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            self.method in METHODS.values(), "the method", self.method, f"one of {list(METHODS.values())}"
        )
        require(
            1 <= len(self.groups) <= MAX_GROUPS, "the count of groups", len(self.groups), f"1 to {MAX_GROUPS}"
        )
        count = len(self.classes)
        require(1 <= count <= MAX_CLASSES, "the count of classes", count, f"1 to {MAX_CLASSES}")
        seen: set[str] = set()
        for entry in self.classes:
            require(
                entry.label not in seen, "a class label", f"given twice ({entry.label!r})", "each label once"
            )
            seen.add(entry.label)
        for part in self.template:
            _check_text("a template part", part, least=0)
        _check_text("the backbone's name", self.backbone_name)
        require(len(self.fingerprint) == 16, "the fingerprint's length", len(self.fingerprint), "16 bytes")
        entries = len(self.metadata)
        require(entries <= MAX_METADATA, "the count of metadata entries", entries, f"up to {MAX_METADATA}")
        for key, value in self.metadata.items():
            _check_text("a metadata key", key)
            _check_text("a metadata value", value, least=0)
        if self.method == CONTEXT:
            _check_qcoop(self.groups, count)
        if self.method in _SECOND_ROLES:
            _check_deep(self.method, self.groups)

    def __repr__(self) -> str:
        return f"<PromptFile {self.about} for {printable(self.backbone_name)}>"

    @property
    def about(self) -> str:
        """Method, bits and classes in a few words."""
        bits = "/".join(map(str, sorted({group.bits for group in self.groups})))
        return f"{self.method}, {bits} bit, {counted(len(self.classes), 'class', 'classes')}"

    @property
    def payload_bytes(self) -> int:
        """Bytes of all codebooks and indices (or floats)."""
        return sum(group.payload_bytes for group in self.groups)

    def to_bytes(self) -> bytes:
        """Return the file's content; the same prompt gives the same bytes.

        Raises:
            PromptFileError: The file would be larger than `MAX_FILE_BYTES`.
        """
        fields: dict[int, Any] = {
            1: number_of(METHODS, self.method),
            2: [encode_group(group) for group in self.groups],
            3: [c.label if c.text == rule_text(c.label) else [c.label, c.text] for c in self.classes],
            4: list(self.template),
            5: [self.backbone_name, self.fingerprint],
            6: {0: float(self.calibration.logit_scale)},
        }
        if self.metadata:
            fields[7] = dict(self.metadata)
        return encode_fields(fields)

    @classmethod
    def from_bytes(cls, data: bytes) -> PromptFile:
        """Read a file's content, trusting none of it.

        Raises:
            PromptFileError: The bytes are anything else than what `to_bytes` writes; the message says what came.
        """
        prompt = _decode(decode_fields(data))
        if prompt.to_bytes() != data:
            raise PromptFileError("the file is not in the one encoding that the format allows; write it anew")
        return prompt


def read_prompt_file(path: Path) -> PromptFile:
    """Read and check the prompt file at `path`.

    Raises:
        PromptFileError: The file cannot be read, or breaks the format; the message begins with the path.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)  # one byte too many is enough to refuse it
        return PromptFile.from_bytes(data)
    except OSError as error:
        raise PromptFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except PromptFileError as error:
        raise PromptFileError(f"{path}: {error}") from error


def write_prompt_file(path: Path, prompt: PromptFile) -> None:
    """Write `prompt` to `path`, all of it or nothing.

    Raises:
        PromptFileError: The file would be larger than `MAX_FILE_BYTES`.
        OutputError: The file cannot be written.
    """
    write_atomic(path, prompt.to_bytes())


def _decode(fields: dict[Any, Any]) -> PromptFile:
    """Give the fields of an envelope their meaning."""
    required, optional = {1, 2, 3, 4, 5, 6}, {7}
    unknown = [key for key in fields if type(key) is not int or key not in required | optional]
    require(not unknown, "a key of the file", unknown, "the keys 0 to 8 only")
    missing = sorted(required - set(fields))
    require(not missing, "a key of the file", f"missing: {missing}", "the keys 0 to 6 and 8")
    before, after = parts(fields[4], 2, "the template")
    name, fingerprint = parts(fields[5], 2, "the backbone")
    calibration = typed(dict, fields[6], "the calibration")
    require(0 in calibration, "the logit scale", "missing", "a float")
    if 1 in calibration:
        raise PromptFileError(
            'the file has a threshold for "none of these", which this version does not apply; update qprompt-edge, '
            "or have the prompt written without it"
        )
    require(list(calibration) == [0], "the calibration's keys", list(calibration), "0 alone")
    metadata = typed(dict, fields.get(7, {}), "the metadata")
    return PromptFile(
        name_of(METHODS, fields[1], "the method"),
        tuple(decode_group(group) for group in typed(list, fields[2], "the groups")),
        tuple(_decode_class(entry) for entry in typed(list, fields[3], "the classes")),
        (typed(str, before, "the template"), typed(str, after, "the template")),
        typed(str, name, "the backbone's name"),
        typed(bytes, fingerprint, "the fingerprint"),
        Calibration(typed(float, calibration[0], "the logit scale")),
        {typed(str, k, "a metadata key"): typed(str, v, "a metadata value") for k, v in metadata.items()},
    )


def _decode_class(value: object) -> ClassName:
    if isinstance(value, str):
        return ClassName.from_label(value)
    label, text = parts(value, 2, "a class")
    return ClassName(typed(str, label, "a class label"), typed(str, text, "the prompt text of a class"))


def _check_qcoop(groups: tuple[PromptGroup, ...], classes: int) -> None:
    roles = [group.role for group in groups]
    require(roles == [ROLES[0]], "the list of roles of a qcoop prompt", roles, f"{[ROLES[0]]}")
    shape = groups[0].shape
    good = len(shape) == 2 or (len(shape) == 3 and shape[0] == classes)
    require(good, "the shape of a qcoop prompt", shape, f"[n, D], or [C, n, D] with C = {classes} classes")


def _check_deep(method: str, groups: tuple[PromptGroup, ...]) -> None:
    roles, expected = [group.role for group in groups], [ROLES[0], _SECOND_ROLES[method]]
    require(roles == expected, f"the list of roles of a {method} prompt", roles, f"{expected}")
    shapes = text, second = [group.shape for group in groups]
    good = len(text) == len(second) == 3 and text[0] == second[0]
    if method == FOLDED:
        good, wanted = good and text[1] == second[1], "[J, n, D] and [J, n, V]"
    else:
        good, wanted = good and text[2] + 1 == second[2], "[J, n, D] and [J, V, D + 1]"
    require(good, f"the shapes of a {method} prompt", shapes, wanted)


def _check_text(what: str, text: str, least: int = 1) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PromptFileError(f"{what} is {text[:80]!r}, expected text that UTF-8 can carry") from error
    require(
        least <= size <= MAX_TEXT_BYTES, what, f"{size} bytes", f"{least} to {MAX_TEXT_BYTES} bytes of UTF-8"
    )
