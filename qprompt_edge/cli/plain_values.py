"""Words of the command line become values without pydantic, where nothing can be wrong with them.

typer from 0.29 on converts every value with pydantic, whose import takes a quarter of the time of a short
command. Here numbers in digits, texts, paths and words of a choice are taken as they are. Whatever else comes
goes to typer, which converts it or says what is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

_MOST_DIGITS = 15


def taking_plain_values(parameters: list[Any]) -> list[Any]:
    """Have arguments and options of typer take plain values themselves; returns the same ones.

    Nothing changes where typer needs no pydantic (before 0.29), or will work in yet another way.
    """
    for parameter in parameters:
        kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
        if kind is not None and "process_value" not in vars(parameter):
            _take_plain_values(parameter, kind)
    return parameters


def _take_plain_values(parameter: Any, kind: Any) -> None:
    by_typer = parameter.process_value
    several = parameter.nargs == -1 or parameter.multiple
    if several:
        (kind,) = get_args(kind)

    def process_value(ctx: Any, value: Any) -> Any:
        if value is None and not parameter.required:
            nothing = () if several else None
            return nothing if parameter.callback is None else parameter.callback(ctx, parameter, nothing)
        if several and not isinstance(value, list | tuple):
            return by_typer(ctx, value)
        found = [_plain(word, kind, parameter) for word in (value if several else [value])]
        if not found or None in found or parameter.callback is not None:
            return by_typer(ctx, value)
        return found if several else found[0]

    parameter.process_value = process_value


def _plain(word: Any, kind: Any, parameter: Any) -> Any:
    """A word, or a default, as a value of type `kind`; None where typer has to look at it."""
    if kind in (int, float):
        number = _number(word, kind)
        too_small = number is None or (parameter.min is not None and number < parameter.min)
        return None if too_small or (parameter.max is not None and number > parameter.max) else number
    if get_origin(kind) is Literal:
        return word if word in get_args(kind) else None
    if kind is Path and isinstance(word, str | Path):
        return Path(word) if os.access(word, os.R_OK) or not os.path.lexists(word) else None
    return word if kind is str and isinstance(word, str) else None


def _number(word: Any, kind: type[int] | type[float]) -> int | float | None:
    if not isinstance(word, str):
        return kind(word) if type(word) in (int, kind) else None
    digits = word.replace(".", "", 1) if kind is float else word
    return kind(word) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else None
