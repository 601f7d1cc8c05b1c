"""The files in folders: those that may be photos, each folder once, and what cannot be read.

The idea: what systems and programs put beside photos is known by its name and passed over. Everything else is
handed on: as a file, or with the reason why it is none. A folder is known by its real path, so links that
lead in a circle end; its inode number would not do, since some network file systems report the same one for
every folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

Problem = tuple[Path, str]

SYSTEM_NAMES = frozenset(
    {
        # Linux
        "lost+found", "aquota.user", "aquota.group",
        # Windows
        "$recycle.bin", "recycler", "system volume information", "thumbs.db", "ehthumbs.db",
        "ehthumbs_vista.db", "desktop.ini", "autorun.inf", "$extend", "$winreagent", "$sysreset",
        "$getcurrent", "$windows.~bt", "$windows.~ws", "config.msi", "msocache", "wpsettings.dat",
        "indexervolumeguid", "pagefile.sys", "hiberfil.sys", "swapfile.sys",
        # macOS
        "__macosx", "icon\r", "network trash folder", "temporary items", "thevolumesettingsfolder",
        # network storage: Synology, QNAP, NetApp and others
        "@eadir", "@tmp", "@sharebin", "@sharesnap", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",
        "@__thumb", "~snapshot", "_gsdata_",
        # cameras and phones, photo programs, Python
        "lost.dir", "picasa.ini", "zbthumbnail.info", "__pycache__",
    }
)  # fmt: skip
"""What systems leave on drives and shares, in lower case; names that begin with a dot are passed over too."""

_CHECKED_DRIVE = re.compile(r"found\.\d{3}")  # what chkdsk saves files in

SIDECARS = frozenset(
    {
        ".aae", ".arp", ".cos", ".csv", ".ctg", ".db", ".dop", ".exif", ".gpx", ".html", ".htm", ".ini",
        ".json", ".log", ".md", ".md5", ".mie", ".nksc", ".on1", ".pp3", ".sha1", ".sha256", ".srt", ".thm",
        ".tsv", ".txt", ".url", ".xml", ".xmp", ".yaml", ".yml",
    }
)  # fmt: skip
"""Endings (in lower case) of files that describe the photos beside them.

Such a file is passed over, unless its content is a photo's.
"""
_THUMBNAIL = ".thm"  # a small JPEG that a camera writes beside a video
_PHOTO_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")

_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Entry:
    """What is at a path; links are followed.

    Attributes:
        path: Where.
        is_folder: Whether it is a folder.
        problem: Why it is neither a folder nor a file that could be opened; None if it is one.
        unknown: Whether the system would not say what it is (a share that is gone, a failing disk).
    """

    path: Path
    is_folder: bool = False
    problem: str | None = None
    unknown: bool = False


def look_at(path: Path) -> Entry:
    """What is at a path; a file's content is not looked at."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a zero byte
        return Entry(path, problem=f"cannot be opened: {error}")
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            return Entry(path, problem=f"cannot be read: {error.strerror or error}", unknown=True)
        if error.errno == errno.ENAMETOOLONG:
            return Entry(path, problem=f"cannot be opened: {error.strerror}")
        return Entry(path, problem="is a link that leads nowhere" if path.is_symlink() else "no such file")
    if stat.S_ISDIR(mode):
        return Entry(path, is_folder=True)
    return Entry(path, problem=None if stat.S_ISREG(mode) else "is not a regular file")


def list_folder(folder: Path) -> tuple[list[Entry], list[Problem]]:
    """Entries of one folder, sorted, without those of the system; and the reason if it cannot be read."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        return [], [(folder, f"cannot be read: {error.strerror or error}")]
    return [look_at(folder / name) for name in names if not is_systems(name)], []


def is_systems(name: str) -> bool:
    """Whether a file or folder of this name is the system's, or hidden."""
    lower = name.lower()
    return lower.startswith(".") or lower in SYSTEM_NAMES or _CHECKED_DRIVE.fullmatch(lower) is not None


def real_path(path: Path) -> str:
    """The path without links; the path itself where the system cannot tell."""
    try:
        return os.path.realpath(path)
    except OSError:  # the current folder is gone
        return os.fspath(path)


def folders_above(folder: Path) -> frozenset[str]:
    """Real paths of all folders above this one."""
    return frozenset(map(str, Path(real_path(folder)).parents))


def walk(folder: Path, outside: AbstractSet[str]) -> tuple[list[Path], list[Problem]]:
    """All files below a folder but `SIDECARS`; each folder once.

    Args:
        folder: Where to begin.
        outside: Real paths of folders that are not entered, such as those above: so circular links end.

    Returns:
        The files, and what is none with the reason, each in no order of meaning.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    seen = set(outside)
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        if (real := real_path(current)) in seen:
            continue
        seen.add(real)
        entries, unread = list_folder(current)
        problems += unread
        for entry in entries:
            path = entry.path
            if entry.is_folder:
                waiting.append(path)
            elif entry.problem is not None:
                problems.append((path, entry.problem))
            elif not is_sidecar(path):
                files.append(path)
    return files, problems


def is_sidecar(path: Path) -> bool:
    """Whether a file stands beside photos: its ending says so, and its content is no photo's."""
    suffix = path.suffix.lower()
    if suffix not in SIDECARS or suffix == _THUMBNAIL:
        return suffix in SIDECARS
    head = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(8)
    return not (head.startswith(_PHOTO_STARTS) or head[4:] == b"ftyp")
