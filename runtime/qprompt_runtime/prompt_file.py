"""The prompt file (.qpt): the result of a training, in a few hundred bytes.

`docs/prompt-file.md` specifies the format. Whether a file may be loaded, `admission` decides first.
`prompt_envelope` turns its bytes into a map of fields and back, and this module gives the fields their
meaning. The weights are in `prompt_group`, the methods in `prompt_methods`, the classes in `prompt_classes`,
the calibration in `prompt_calibration`. Every part checks itself when it is made, whether by a program or
from a file.

A prompt has exactly one encoding, so the last check of the reader is to write what it has understood and to
compare the bytes. Whatever the checks before do not look at (keys out of order or given twice, lengths in a
long form, an empty metadata map, a prompt text that the label's rule would give) ends there.

Keys 1 to 15 are critical: a reader that does not know one refuses the file. Keys 16 to 22 are optional: they
never change an answer, and a reader keeps those that it does not know (`PromptFile.extras`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprompt_runtime.admission import admitted, unwrapped
from qprompt_runtime.errors import PromptFileError, TrustError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.packing import TERNARY
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_calibration import (
    ACCEPT_SHARES,
    Calibration,
    decode_calibration,
    encode_calibration,
)
from qprompt_runtime.prompt_classes import ClassName, check_text, decode_class, encode_class, rule_text
from qprompt_runtime.prompt_envelope import (
    FORMAT_VERSION,
    decode_fields,
    encode_fields,
    name_of,
    number_of,
    parts,
    read_content,
    require,
    typed,
)
from qprompt_runtime.prompt_group import PromptGroup, decode_group, encode_group
from qprompt_runtime.prompt_keys import EXTRA_KEYS, check_extras, check_keys, check_photos
from qprompt_runtime.prompt_methods import (
    CONTEXT,
    COUPLED,
    DEEP_METHODS,
    FOLDED,
    METHODS,
    RESIDUAL,
    check_groups,
    without_needless_rows,
)
from qprompt_runtime.text import counted, printable

__all__ = [
    "ACCEPT_SHARES",
    "CONTEXT",
    "COUPLED",
    "DEEP_METHODS",
    "FOLDED",
    "METHODS",
    "RESIDUAL",
    "Calibration",
    "ClassName",
    "PromptFile",
    "PromptGroup",
    "check_content",
    "prompt_in",
    "read_content",
    "read_prompt_file",
    "rule_text",
    "write_prompt_file",
]

MAX_GROUPS = 8
MAX_CLASSES = 100_000
MAX_METADATA = 64


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
        calibration: The logit scale, and the scores by which "none of these" is decided.
        metadata: Free text by name, usually empty.
        photos: How many photos each class was tuned on, in the order of the classes; empty if that is not
            said.
        extras: What a file says under optional keys (17 to 22) that this version does not know, kept as it
            came.
        format_version: Of the file, 1 or 2; version 1 holds no `qtaskres`, accept scores, photos or extras.

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
    photos: tuple[int, ...] = ()
    extras: Mapping[int, bytes] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

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
            check_text("a template part", part, least=0)
        check_text("the backbone's name", self.backbone_name)
        require(len(self.fingerprint) == 16, "the fingerprint's length", len(self.fingerprint), "16 bytes")
        entries = len(self.metadata)
        require(entries <= MAX_METADATA, "the count of metadata entries", entries, f"up to {MAX_METADATA}")
        for key, value in self.metadata.items():
            check_text("a metadata key", key)
            check_text("a metadata value", value, least=0)
        check_groups(self.method, self.groups, count, self.template[0])
        groups = tuple(without_needless_rows(group, count) for group in self.groups)
        object.__setattr__(self, "groups", groups)  # frozen
        check_photos(self.photos, count)
        check_extras(self.extras)
        _check_version(self)

    def __repr__(self) -> str:
        return f"<PromptFile {self.about} for {printable(self.backbone_name)}>"

    @property
    def about(self) -> str:
        """Method, bits and classes in a few words; the bits of class offsets, always 16, are left out."""
        tuned = self.groups[:1] if self.method == RESIDUAL else self.groups
        bits = "/".join(map(str, sorted({group.bits for group in tuned})))
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
            3: [encode_class(name) for name in self.classes],
            4: list(self.template),
            5: [self.backbone_name, self.fingerprint],
            6: encode_calibration(self.calibration),
        }
        if self.metadata:
            fields[7] = dict(self.metadata)
        if self.photos:
            fields[16] = list(self.photos)
        return encode_fields(self.format_version, fields | dict(self.extras))

    @classmethod
    def from_bytes(cls, data: bytes, policy: Policy | None = None) -> PromptFile:
        """Read a file's content, signed or not, trusting none of it.

        Args:
            data: The content.
            policy: What the caller asks for beside what the device's policy says (`docs/signing.md`).

        Raises:
            PromptFileError: The prompt is not what `to_bytes` writes; the message says what came.
            TrustError: The policy does not let it be loaded.
        """
        return _parse(admitted(data, policy))


def read_prompt_file(path: Path, policy: Policy | None = None) -> PromptFile:
    """Read and check the prompt file at `path`.

    Args:
        path: The file; it is read once, so the bytes that are checked are those that are used.
        policy: As in `PromptFile.from_bytes`.

    Raises:
        PromptFileError: The file cannot be read, or breaks the format; the message begins with the path.
        TrustError: The policy does not let it be loaded; the message begins with the path.
    """
    return prompt_in(read_content(path), path, policy)


def prompt_in(data: bytes, path: Path | str, policy: Policy | None = None) -> PromptFile:
    """The prompt in a file's content; errors as `read_prompt_file` raises them, with its path or name."""
    try:
        return PromptFile.from_bytes(data, policy)
    except (PromptFileError, TrustError) as error:
        raise type(error)(f"{path}: {error}") from error


def check_content(data: bytes, path: Path) -> None:
    """Check that a file's content, signed or not, is a sound prompt, without loading it: for those who sign.

    Raises:
        PromptFileError: There is none; the message begins with the path.
        TrustError: A signed file breaks its format.
    """
    try:
        _parse(unwrapped(data))
    except PromptFileError as error:
        raise PromptFileError(f"{path}: {error}") from error


def write_prompt_file(path: Path, prompt: PromptFile, seal: Callable[[bytes], bytes] | None = None) -> None:
    """Write `prompt` to `path`, all of it or nothing; `seal` makes a signed prompt of its bytes.

    Raises:
        PromptFileError: The file would be larger than `MAX_FILE_BYTES`.
        OutputError: The file cannot be written.
    """
    content = prompt.to_bytes()
    write_atomic(path, content if seal is None else seal(content))


def _parse(content: bytes) -> PromptFile:
    """The prompt in a prompt file's own bytes."""
    prompt = _decode(*decode_fields(content))
    if prompt.to_bytes() != content:
        raise PromptFileError(
            "the file is not in the one encoding that the format allows for its content; write it again"
        )
    return prompt


def _decode(version: int, fields: dict[Any, Any]) -> PromptFile:
    """Give the fields of an envelope their meaning."""
    check_keys(version, fields)
    before, after = parts(fields[4], 2, "the template")
    name, fingerprint = parts(fields[5], 2, "the backbone")
    metadata = typed(dict, fields.get(7, {}), "the metadata")
    photos = typed(list, fields.get(16, []), "the list of photos a class")
    return PromptFile(
        name_of(METHODS, fields[1], "the method"),
        tuple(decode_group(group) for group in typed(list, fields[2], "the groups")),
        tuple(decode_class(entry) for entry in typed(list, fields[3], "the classes")),
        (typed(str, before, "the template"), typed(str, after, "the template")),
        typed(str, name, "the backbone's name"),
        typed(bytes, fingerprint, "the fingerprint"),
        decode_calibration(version, fields[6]),
        {typed(str, k, "a metadata key"): typed(str, v, "a metadata value") for k, v in metadata.items()},
        tuple(typed(int, count, "a count of photos") for count in photos),
        {key: typed(bytes, fields[key], f"the value of key {key}") for key in EXTRA_KEYS if key in fields},
        version,
    )


def _check_version(prompt: PromptFile) -> None:
    version = prompt.format_version
    require(type(version) is int and version in (1, 2), "the format version", version, "1 or 2")
    beyond = {
        f"the method {RESIDUAL}": prompt.method == RESIDUAL,
        "codebooks of three": any(group.bits == TERNARY for group in prompt.groups),
        "accept scores": prompt.calibration.accept_scores,
        "photos a class": prompt.photos,
        "optional keys": prompt.extras,
    }
    found = [what for what, there in beyond.items() if there]
    if version == 1 and found:
        raise PromptFileError(
            f"format version 1 does not hold {', '.join(found)}; make the prompt of version {FORMAT_VERSION} "
            f"(format_version={FORMAT_VERSION})"
        )
