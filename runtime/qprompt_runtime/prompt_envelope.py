"""The bytes of a prompt file as a map of fields, and nothing about what the fields mean.

`docs/prompt-file.md` specifies the format: the tag `d9 d9 f7`, one CBOR map (RFC 8949) with integer keys, of
which key 0 is the version and the last one the checksum: 23 in version 2, 8 in version 1. The reader treats
the bytes as hostile. cbor2 sees them only after `_check_structure` has walked over every item: then no length
points outside of the file, nothing nests deeply, the number of objects is bounded, and no tag makes cbor2
build anything special.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import cbor2

from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.foreign import START_BYTES, foreign
from qprompt_runtime.small_hash import sha256

FORMAT_VERSION = 2
"""What is written anew; a prompt that was read keeps the version of its file."""
MAX_FILE_BYTES = 2**26
MAX_SIGNATURE_BYTES = 256  # what a signed file has more than its prompt
MAX_ITEMS = (
    700_000  # the most classes, each with a text, a count of photos and a row in two groups, are 600,000
)
MAX_PAIRS = 64
MAX_DEPTH = 4

_TAG = b"\xd9\xd9\xf7"  # self-described CBOR, RFC 8949, section 3.4.6
_CHECKSUM_KEYS = {1: 8, 2: 23}
"""By format version; each is the highest key of the file."""
_CHECKSUM_BYTES = 8
_ARGUMENT_BYTES = {
    24: 1,
    25: 2,
    26: 4,
    27: 8,
}  # RFC 8949, section 3, by the low 5 bits of an item's first byte
_UNSIGNED, _BYTES, _TEXT, _ARRAY, _MAP, _FLOAT = 0, 2, 3, 4, 5, 7  # major types, the high 3 bits

T = TypeVar("T")


def read_content(path: Path) -> bytes:
    """The bytes of a prompt file, or one too many if it is too large to be one.

    Raises:
        PromptFileError: It cannot be read; the message begins with the path.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + MAX_SIGNATURE_BYTES + 1)
    except OSError as error:
        raise PromptFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def require(good: bool, what: str, got: object, expected: str) -> None:
    """Raise a `PromptFileError` that says what came and what was expected, unless `good`."""
    if not good:
        shown = got if isinstance(got, str) else repr(got)
        raise PromptFileError(f"{what} is {shown[:120]}, expected {expected}")


def typed(kind: type[T], value: object, what: str) -> T:
    """Return `value` if it is of exactly this type; otherwise raise a `PromptFileError`."""
    if type(value) is not kind:  # not isinstance: True is an int to Python
        raise PromptFileError(f"{what} is of type {type(value).__name__}, expected {kind.__name__}")
    return value


def parts(value: object, count: int, what: str) -> list[Any]:
    """Return the parts of an array if there are `count` of them; otherwise raise a `PromptFileError`."""
    entries = typed(list, value, what)
    require(len(entries) == count, f"{what}'s count of parts", len(entries), str(count))
    return entries


def name_of(names: dict[int, str], value: object, what: str) -> str:
    """Return the name that a number of the file stands for; raises a `PromptFileError` if it has none."""
    number = typed(int, value, what)
    require(number in names, what, f"the unknown number {number}", f"one of {names}")
    return names[number]


def number_of(names: dict[int, str], name: str) -> int:
    """Return the number that stands for a name in the file."""
    return next(number for number, known in names.items() if known == name)


def encode_fields(version: int, fields: dict[int, Any]) -> bytes:
    """Return the file's content.

    Args:
        version: Of the format, 1 or 2.
        fields: What the file says, by key; the version (key 0) and the checksum (the highest key) are added
            here.

    Raises:
        PromptFileError: The file would be larger than `MAX_FILE_BYTES`.
    """
    full = {0: version, **fields, _CHECKSUM_KEYS[version]: bytes(_CHECKSUM_BYTES)}
    body = _TAG + cbor2.dumps(full, canonical=True)[:-_CHECKSUM_BYTES]
    size = len(body) + _CHECKSUM_BYTES
    require(size <= MAX_FILE_BYTES, "the file's size", size, f"at most {MAX_FILE_BYTES} bytes")
    return body + _checksum(body)


def decode_fields(data: bytes) -> tuple[int, dict[Any, Any]]:
    """Return a file's format version and its fields, once its envelope is found sound.

    The fields come without the version and the checksum. Keys and values are of any type that CBOR text,
    bytes, arrays, maps, unsigned integers and floats give; that the encoding is the only one allowed is left
    to the caller, who compares it with `encode_fields`.

    Raises:
        PromptFileError: The file is too large, no prompt file, of another version, damaged, or not the plain
            CBOR of the format.
    """
    require(len(data) <= MAX_FILE_BYTES, "the file's size", "larger", f"at most {MAX_FILE_BYTES} bytes")
    version = _read_version(data)
    if _checksum(data[:-_CHECKSUM_BYTES]) != data[-_CHECKSUM_BYTES:]:
        raise PromptFileError("the file is damaged or cut short: its checksum does not match; copy it again")
    _check_structure(data)
    try:
        fields = cbor2.loads(data[len(_TAG) :])
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise PromptFileError(f"the file is not valid CBOR: {error}") from error
    require(isinstance(fields, dict), "the outermost item", type(fields).__name__, "a map")
    for key in (0, _CHECKSUM_KEYS[version]):
        require(key in fields, f"key {key}", "missing", "a file that has it")
        del fields[key]
    return version, dict(fields)


def _checksum(body: bytes) -> bytes:
    return sha256(body)[:_CHECKSUM_BYTES]


def _read_version(data: bytes) -> int:
    """Check the tag and read the version, which stand in the same place in every version of the format."""
    start = data[: len(_TAG)]
    if start != _TAG:
        kind = foreign(data[:START_BYTES])
        is_what = f"is {kind}" if kind else f"begins with {start.hex()}, a prompt file with {_TAG.hex()}"
        raise PromptFileError(f"the file is no prompt file: it {is_what}")
    head, key = data[3:4], data[4:5]
    good = b"\xa1" <= head <= b"\xb7" and key == b"\x00"
    require(
        good,
        "the item after the tag",
        data[3:5].hex() or "missing",
        "a map that begins with key 0, the version",
    )
    major, version, _ = _read_head(data, 5)
    known = " and ".join(map(str, _CHECKSUM_KEYS))
    require(major == _UNSIGNED, "the format version", "not an unsigned integer", known)
    if version not in _CHECKSUM_KEYS:
        raise PromptFileError(
            f"the file has format version {version}, this program reads the versions {known}; "
            "update qprompt-edge (or the file is damaged)"
        )
    return version


def _check_structure(data: bytes) -> None:
    """Walk over all items without building any.

    Checks what cbor2 would otherwise have to be trusted with.
    """
    offset, items = len(_TAG), 0
    left = [1]  # items still to come: of the file, then of each array or map that is open
    while left:
        if left[-1] == 0:
            left.pop()
            continue
        left[-1] -= 1
        items += 1
        require(items <= MAX_ITEMS, "the count of CBOR items", "larger", f"at most {MAX_ITEMS}")
        major, argument, offset = _read_head(data, offset)
        rest = len(data) - offset
        if major in (_BYTES, _TEXT):
            require(argument <= rest, "a declared length", argument, f"at most the {rest} bytes that follow")
            offset += argument
        elif major in (_ARRAY, _MAP):
            count = argument * (2 if major == _MAP else 1)
            require(
                count <= rest, "a declared count of items", count, f"at most the {rest} bytes that follow"
            )
            good = major == _ARRAY or argument <= MAX_PAIRS
            require(good, "the count of pairs in a map", argument, f"at most {MAX_PAIRS}")
            require(len(left) <= MAX_DEPTH, "the depth of arrays and maps", "larger", f"at most {MAX_DEPTH}")
            left.append(count)
    extra = len(data) - offset
    require(extra == 0, "the end of the file", f"{extra} bytes late", "nothing after the map")


def _read_head(data: bytes, offset: int) -> tuple[int, int, int]:
    """Read the head of one item (RFC 8949, section 3).

    Returns its major type, its argument, and the offset after it.
    """
    require(offset < len(data), "the file's end", "in the middle of the map", "a complete map")
    major, info = data[offset] >> 5, data[offset] & 31
    size = 0 if info < 24 else _ARGUMENT_BYTES.get(info, -1)
    good = size >= 0 and major in (_UNSIGNED, _BYTES, _TEXT, _ARRAY, _MAP, _FLOAT)
    good = good and (major != _FLOAT or info in (25, 26, 27))
    expected = "an unsigned integer, float, text, byte string, array or map of definite length"
    require(good, f"the item at byte {offset}", f"of the kind 0x{data[offset]:02x}", expected)
    end = offset + 1 + size
    require(end <= len(data), "the file's end", "in the middle of an item", "a complete map")
    return major, int.from_bytes(data[offset + 1 : end], "big") if size else info, end
