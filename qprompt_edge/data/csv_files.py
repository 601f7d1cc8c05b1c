"""The two lists that a user may write: labels of photos, and words for labels.

The idea: CSV in UTF-8 with named columns, or what spreadsheets write in its place (semicolons, tabs, UTF-16),
which the first line tells apart for certain; and a clear word about anything else. Labels are compared in
Unicode's composed form (NFC), because macOS stores "é" as two characters in the names of folders where others
store one.
"""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from qprompt_runtime.errors import PhotosError
from qprompt_runtime.foreign import START_BYTES, foreign
from qprompt_runtime.text import printable

_BETWEEN = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
_FIRST = 100


def read_class_names(csv_path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Read the words that stand for a label in the prompt, for labels such as `ok` or `defect_A`.

    Args:
        csv_path: As `read_table` reads it, with the columns `label,text`; labels may be left out.
        classes: The labels there are.

    Returns:
        Text by label, only for labels that are listed.

    Raises:
        PhotosError: The file cannot be read, has other columns, an unknown label, or a label twice.
    """
    texts: dict[str, str] = {}
    labels = set(classes)
    for line, (raw_label, text) in read_table(csv_path, ("label", "text")):
        place = f"{printable(csv_path)}, line {line}"
        label = class_label(raw_label, place)
        if label not in labels:
            known = ", ".join(printable(name) for name in classes[:20]) + (
                ", ..." if len(classes) > 20 else ""
            )
            raise PhotosError(f"{place}: unknown class {printable(label)}; the classes are {known}")
        if label in texts:
            raise PhotosError(f"{place}: class {printable(label)} is listed twice; keep one line")
        texts[label] = composed(text)
    return texts


def composed(text: str) -> str:
    """Unicode's composed form, in which names are compared and kept."""
    return unicodedata.normalize("NFC", text)


def class_label(name: str, place: str) -> str:
    """A class name in composed form.

    Raises:
        PhotosError: The name holds bytes that are no text, which a prompt file cannot keep; `place` says
            where.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise PhotosError(f"{place}: the class name is not valid UTF-8; rename it") from None
    return composed(name)


def read_table(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Line number and the two fields of each row, in the order of `columns`; empty lines are passed over.

    Text is UTF-8, or UTF-16 with its byte-order mark; commas, semicolons or tabs stand between the fields, as
    its first line shows.

    Raises:
        PhotosError: The file cannot be read, is no such text, has other columns, or a row without two values.
    """
    shown, expected = printable(path), ",".join(columns)
    text = _text(path, expected)
    try:
        headers = {mark: _header(text, mark) for mark in _BETWEEN}
        mark = next((mark for mark in _BETWEEN if sorted(headers[mark]) == sorted(columns)), None)
        if mark is None:
            found = printable(",".join(headers[","])[:200]) or "nothing"
            raise PhotosError(f"{shown}: expected the columns {expected}, found {found}; rename or remove")
        first, second = (headers[mark].index(name) for name in columns)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
        next(reader)
        for row in reader:
            fields = [field.strip() for field in row]
            if not any(fields):
                continue
            if len(fields) != 2 or not all(fields):
                raise PhotosError(
                    f"{shown}, line {reader.line_num}: expected two values, {printable(mark.join(columns))}, "
                    f"found {sum(map(bool, fields))}; put quotes around a value that holds {_BETWEEN[mark]}"
                )
            yield reader.line_num, (fields[first], fields[second])
    except csv.Error as error:
        raise PhotosError(
            f"{shown}: cannot be read as a text table ({error}); expected CSV with columns {expected}"
        ) from error


def _header(text: str, mark: str) -> list[str]:
    """The first line's fields, if `mark` stands between them."""
    return [name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), [])]


def _text(path: Path, expected: str) -> str:
    """A file's text, in UTF-8 or, with its byte-order mark, UTF-16."""
    shown = printable(path)
    try:
        data = path.read_bytes()
        text = data.decode(
            "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        )
        wrong = "it holds zero bytes, as UTF-16 does" if "\0" in text[:_FIRST] else None
    except OSError as error:
        raise PhotosError(
            f"{shown}: cannot be read: {error.strerror or error}; expected CSV with columns {expected}"
        ) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = f"byte 0x{data[error.start]:02x} in line {line} is none of {error.encoding}"
    kind = foreign(data[:START_BYTES]) if data else None
    if kind is not None or wrong is not None:
        what = f"is {kind}" if kind else f"not a UTF-8 text table ({wrong})"
        raise PhotosError(f"{shown}: {what}; expected CSV with columns {expected}: save it as CSV, in UTF-8")
    return text
