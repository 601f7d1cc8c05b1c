"""HTML from text: whatever comes from a file or a folder goes through `shown`."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from qprompt_runtime.text import printable

LONGEST = 120


def shown(text: str | os.PathLike[str], most: int = LONGEST) -> str:
    """Text from outside, fit to stand between tags or in a quoted attribute.

    Args:
        text: A name or a path; what cannot be printed becomes an escape, as on the terminal.
        most: Characters to show, at least 3; of a longer text its middle is left out.
    """
    line = printable(text)
    if len(line) > most:
        end = (most - 1) // 2
        line = f"{line[: most - 1 - end]}…{line[-end:]}"
    return html.escape(line)


def path_within(path: Path, folder: Path) -> Path:
    """A path from a folder on, if it is in it."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def named(label: str, most: int = LONGEST) -> str:
    """A class's name within a line of other text, which may run in another direction; as `shown`."""
    return f"<bdi>{shown(label, most)}</bdi>"


def element(tag: str, content: str, **attributes: str) -> str:
    """An element of HTML.

    Args:
        tag: Its name.
        content: HTML.
        attributes: They are escaped. `class_` stands for `class`, `aria_label` for `aria-label`, and so on.
    """
    return f"<{tag}{_attributes(attributes)}>{content}</{tag}>"


def _attributes(values: Mapping[str, str]) -> str:
    return "".join(
        f' {name.strip("_").replace("_", "-")}="{html.escape(value)}"' for name, value in values.items()
    )


def table(
    caption: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], class_: str = ""
) -> str:
    """A table whose first column names its rows.

    Args:
        caption: What it shows, as HTML.
        columns: Heading and class of each column; `r-number` aligns numbers.
        rows: Cells as HTML.
        class_: Further classes of the table.
    """
    head = "".join(element("th", name, scope="col", class_=kind) for name, kind in columns)
    body = []
    for first, *others in rows:
        cells = element("th", first, scope="row", class_=columns[0][1])
        cells += "".join(
            element("td", cell, class_=kind) for cell, (_, kind) in zip(others, columns[1:], strict=True)
        )
        body.append(element("tr", cells))
    inside = f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return element("table", inside, class_=f"r-table {class_}".strip())


def bullets(items: Iterable[str], class_: str = "r-list") -> str:
    """A list of items that are HTML already."""
    return element("ul", "".join(f"<li>{item}</li>" for item in items), class_=class_)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, both HTML already, as a description list."""
    inside = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return element("dl", inside, class_="r-facts")
