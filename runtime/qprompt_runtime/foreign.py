"""Recognise files that were given by mistake, such as web pages and Git LFS pointers, by their content."""

from __future__ import annotations

import contextlib
from pathlib import Path

START_BYTES = 512
"""How much of a file's start `foreign` looks at."""

_STARTS = {
    b"version https://git-lfs": "a Git LFS pointer, which only stands for the file; "
    "`git lfs pull` fetches the file itself",
    b"PK\x03\x04": "a zip archive: a download to unpack, a spreadsheet to save as text, or a checkpoint of "
    "torch, which only `convert` reads",
    b"\x1f\x8b": "a gzip archive; unpack it, and give what is in it",
    b"BZh": "a bzip2 archive; unpack it, and give what is in it",
    b"\xfd7zXZ\x00": "an xz archive; unpack it, and give what is in it",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it, and give what is in it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it, and give what is in it",
    b"Rar!": "a rar archive; unpack it, and give what is in it",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "a document of an old Office program",
    b"%PDF": "a PDF document",
}
_PAGES = (b"<!doctype", b"<html", b"<head", b"<body", b"<!--", b"<script", b"<title", b"<meta")
_TAR = slice(257, 262)


def foreign(start: bytes) -> str | None:
    """What a file is by its first `START_BYTES`, with what to do about it; None if that is not known.

    The words fit behind "is ". A file's own kind is for the caller to know first.
    """
    if not start:
        return "an empty file (0 bytes)"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES):
        return "a web page (HTML), such as a login or download page; download the file itself"
    if text.startswith(b"<?xml"):
        return "an XML document, such as a server's error message; download the file itself"
    if text.startswith((b'{"', b"{\n", b"[{")):
        return "JSON text, such as a server's error message; download the file itself"
    if start[_TAR] == b"ustar":
        return "a tar archive; unpack it, and give what is in it"
    return next((kind for mark, kind in _STARTS.items() if start.startswith(mark)), None)


def but_is(path: Path) -> str:
    """What a file of a bundle is instead, as the end of a message; empty if that is not known or JSON."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        kind = foreign(file.read(START_BYTES))
        return "" if kind is None or kind.startswith("JSON") else f" (the file is {kind})"
    return ""
