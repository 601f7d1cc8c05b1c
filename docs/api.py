"""Write docs/api.md from the docstrings of the public names; run `python docs/api.py`.

A name is public if its package lists it in `__all__`; a class shows its public methods and properties with
it.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import qprompt_edge
import qprompt_runtime

PAGE = Path(__file__).parent / "api.md"
_WIDTH = 100
_SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")
_INTRODUCTION = """\
# Python API

The public names of `qprompt_edge` and `qprompt_runtime`, made from their docstrings by
`python docs/api.py`. Everything else may change without notice.

```python
from qprompt_edge import PromptClassifier, adapt

result = adapt("photos", bits=1, epochs=20)
print(result.summary())
result.save("belt.qpt")

classifier = PromptClassifier.load("belt.qpt")
for path, answer in classifier.predict_many(["new.jpg"], top_k=3):
    print(path, answer)
```

`adapt` and its result are in `qprompt_edge`. What runs a prompt is in `qprompt_runtime`, which does
not need `qprompt_edge`; its names can be imported from either.
"""


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for package in (qprompt_edge, qprompt_runtime):
        parts += [f"## {package.__name__}\n\n{inspect.getdoc(package)}\n", *map(_entry, _own_names(package))]
    return "\n".join(parts)


def _own_names(package: ModuleType) -> Iterator[Any]:
    """What a package offers and does not have from the other one.

    Functions first, then classes, each in the order of names.
    """
    found = [getattr(package, name) for name in package.__all__]
    own = [entry for entry in found if entry.__module__.startswith(f"{package.__name__}.")]
    yield from sorted(own, key=lambda entry: (inspect.isclass(entry), entry.__name__))


def _entry(entry: Any) -> str:
    """A function, or a class with its members."""
    if not inspect.isclass(entry):
        return _called(entry.__name__, entry, "###")
    parts = [f"### {entry.__name__}\n"]
    if not is_dataclass(entry) and not issubclass(entry, Exception):  # others are made by us
        parts.append(_signature(entry.__name__, entry.__init__))
    parts.append(_described(entry))
    for name, member in vars(entry).items():
        heading = f"{entry.__name__}.{name}"
        if name.startswith("_") or not getattr(member, "__doc__", None):
            continue
        if isinstance(member, classmethod) or inspect.isfunction(member):
            parts.append(_called(heading, getattr(member, "__func__", member), "####"))
        elif isinstance(member, property | cached_property):
            parts.append(f"#### {heading}\n\n{_described(member)}")
    return "\n".join(parts)


def _called(name: str, function: Callable[..., Any], level: str) -> str:
    return f"{level} {name}\n\n{_signature(name, function)}\n{_described(function)}"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """How it is called, with the annotations as they stand in the code.

    Long ones have a line for each argument.
    """
    signature = inspect.signature(function)
    words, keywords = [], False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            words.append("*")
            keywords = True
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        words.append(f"{parameter.name}: {parameter.annotation}{default}")
    returned = signature.return_annotation
    end = "" if returned in ("None", signature.empty) else f" -> {returned}"
    line = f"{name}({', '.join(words)}){end}"
    if len(line) > _WIDTH:
        line = f"{name}(\n    " + ",\n    ".join(words) + f",\n){end}"
    return f"```text\n{line}\n```\n"


def _described(entry: Any) -> str:
    """A Google docstring as Markdown: its sections become lists."""
    text, *rest = re.split(rf"^({'|'.join(_SECTIONS)}):\n", inspect.getdoc(entry) or "", flags=re.MULTILINE)
    types = {field.name: str(field.type) for field in fields(entry)} if is_dataclass(entry) else {}
    parts = [_prose(text)]
    if types and "Attributes" not in rest:
        rest = ["Attributes", "\n".join(f"{name}:" for name in types), *rest]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        body = textwrap.dedent(body).strip()
        parts.append(
            f"*{title}*\n\n{_prose(body).strip() if title in ('Returns', 'Yields') else _list(body, types)}\n"
        )
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Paragraphs; an indented one is code."""
    blocks = text.strip().split("\n\n")
    coded = (
        f"```text\n{textwrap.dedent(it)}\n```" if it.startswith("    ") else _wrapped(it) for it in blocks
    )
    return "\n\n".join(coded) + "\n"


def _wrapped(text: str, indent: str = "") -> str:
    """A paragraph or an entry of a list in lines of at most `_WIDTH` columns; a list stays as it is."""
    if "\n- " in text or (text.startswith("- ") and not indent):
        return text
    words = " ".join(text.split())
    return textwrap.fill(
        words, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _list(body: str, types: Mapping[str, str]) -> str:
    """`name: what it is`, whose further lines are indented, as a list; with the type where it is known."""
    lines = []
    for line in re.sub(r"\n +", " ", body).splitlines():
        name, _, meaning = line.partition(":")
        known = f" ({types[name]})" if name in types else ""
        lines.append(_wrapped(f"- `{name}`{known}:{meaning}".removesuffix(":"), "  "))
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
