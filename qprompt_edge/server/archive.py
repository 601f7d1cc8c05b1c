"""Photos out of a zip archive that nobody vouches for.

The idea: the table at the end of the file says how much there is to read, so that is checked before any of it
is. Of a member's path only the last two parts count: its folder is its class, its name is not used. What a
member unpacks to is counted while it is unpacked, whatever its header says.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from qprompt_edge.data.folders import SIDECARS, is_systems
from qprompt_edge.server.limits import PHOTO_BYTES, ZIP_MEMBERS, ZIP_UNPACKED_BYTES
from qprompt_edge.server.names import FROM_ARCHIVE
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.text import printable

_END = struct.Struct("<4s4H2IH")  # APPNOTE 6.3, section 4.3.16
_END_MAGIC, _END_64_MAGIC = b"PK\x05\x06", b"PK\x06\x07"
_LONGEST_COMMENT = 2**16
_TABLE_BYTES = 400 * ZIP_MEMBERS
_ENCRYPTED = 1
_BLOCK = 2**18

Member = tuple[str, str, Path | str]
"""Name, class, and the file that it was unpacked to, or why it was not."""


def unpacked(archive: Path, label: str, folder: Path) -> Iterator[Member]:
    """Unpack an archive's files one by one.

    Args:
        archive: The archive.
        label: Class of all photos; `-` takes the folder that each lies in.
        folder: Where files are unpacked to, under names of ours; whoever takes one moves or deletes it.

    Raises:
        Refusal: It is no zip archive, or holds too much.
    """
    _check_table(archive)
    total = 0
    try:
        with zipfile.ZipFile(archive) as opened:
            for number, info in enumerate(opened.infolist()):
                parts = [part for part in info.filename.replace("\\", "/").split("/") if part]
                if info.is_dir() or not parts or any(map(is_systems, parts)) or _is_sidecar(parts[-1]):
                    continue
                shown = printable(info.filename)[:200]
                if label == FROM_ARCHIVE and len(parts) < 2:
                    yield shown, label, "lies in no folder, so it has no class"
                    continue
                target = folder / str(number)
                problem, size = _unpack(opened, info, target)
                total += size
                if total > ZIP_UNPACKED_BYTES:
                    raise Refusal(413, f"the archive unpacks to more than {ZIP_UNPACKED_BYTES // 2**20} MB")
                yield shown, parts[-2] if label == FROM_ARCHIVE else label, problem or target
    except (zipfile.BadZipFile, NotImplementedError, UnicodeError, ValueError, EOFError) as error:
        raise Refusal(422, f"the zip archive is damaged ({printable(str(error))[:80]})") from error


def _unpack(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> tuple[str | None, int]:
    """Write one member to a file; why that fails, and how many bytes it has."""
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted", 0
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed by a method that is not read; use deflate", 0
    size = 0
    try:
        with opened.open(info) as source, target.open("wb") as file:
            while block := source.read(_BLOCK):
                size += len(block)
                if size > PHOTO_BYTES:
                    break
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        with contextlib.suppress(OSError):
            target.unlink()
        return f"damaged in the archive ({printable(str(error))[:80]})", size
    if size > PHOTO_BYTES:
        target.unlink()
        return f"is larger than {PHOTO_BYTES // 2**20} MB", size
    return None, size


def _is_sidecar(name: str) -> bool:
    return Path(name).suffix.lower() in SIDECARS


def _check_table(archive: Path) -> None:
    """Refuse what would take much memory merely to list."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LONGEST_COMMENT - _END.size))
        tail = file.read()
    place = tail.rfind(_END_MAGIC)
    if place < 0 or place + _END.size > len(tail):
        raise Refusal(422, "is no whole zip archive")
    *_, count, table, _, _ = _END.unpack_from(tail, place)
    if (
        tail[:place].rfind(_END_64_MAGIC, max(0, place - 20)) >= 0
        or count > ZIP_MEMBERS
        or table > _TABLE_BYTES
    ):
        raise Refusal(413, f"the archive holds too many files; expected at most {ZIP_MEMBERS}, and no zip64")
