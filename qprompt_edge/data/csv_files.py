"""The two lists that a user may write: labels of photos, and words for labels.

The idea: one plain form, CSV in UTF-8 with named columns, and a clear word when a spreadsheet has saved something
else. Labels are compared in Unicode's composed form (NFC), because macOS stores "é" as two characters in the names
of folders where others store one.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from qprompt_runtime.errors import PhotosError
from qprompt_runtime.text import printable


def read_class_names(csv_path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Read the words that stand for a label in the prompt, for labels such as `ok` or `defect_A`.

    Args:
        csv_path: Comma-separated, UTF-8, columns `label,text`; labels may be left out.
        classes: The labels there are.

    Returns:
        Text by label, only for labels that are listed.

    Raises:
        PhotosError: The file cannot be read, has other columns, an unknown label, or a label twice.
    """
    texts: dict[str, str] = {}
    for line, (raw_label, text) in read_table(csv_path, ("label", "text")):
        place = f"{printable(csv_path)}, line {line}"
        label = class_label(raw_label, place)
        if label not in classes:
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
        PhotosError: The name holds bytes that are no text, which a prompt file cannot keep; `place` says where.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise PhotosError(f"{place}: the class name is not valid UTF-8; rename it") from None
    return composed(name)


def read_table(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Line number and the two fields of each row, in the order of `columns`; empty lines are passed over.

    Raises:
        PhotosError: The file cannot be read, is not UTF-8, has other columns, or a row without two values.
    """
    shown, expected = printable(path), ",".join(columns)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if sorted(header) != sorted(columns):
                found = printable(",".join(header)) or "nothing"
                raise PhotosError(
                    f"{shown}: expected the columns {expected}, found {found}; rename or remove"
                )
            first, second = (header.index(name) for name in columns)
            for row in reader:
                fields = [field.strip() for field in row]
                if not any(fields):
                    continue
                if len(fields) != 2 or not all(fields):
                    raise PhotosError(f"{shown}, line {reader.line_num}: expected two values, {expected}")
                yield reader.line_num, (fields[first], fields[second])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not a UTF-8 text table ({error})"
        raise PhotosError(
            f"{shown}: cannot be read: {reason}; expected CSV with columns {expected}"
        ) from error
