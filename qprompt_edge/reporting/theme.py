"""The looks of a report: colours of light and dark, and the style sheet that uses them."""

from __future__ import annotations

from pathlib import Path

LIGHT = {
    "page": "#ffffff",
    "card": "#f5f7f6",
    "text": "#18211f",
    "muted": "#54605c",
    "line": "#d5dcd9",
    "track": "#e3e9e6",
    "accent": "#0b6b5f",
    "good": "#176a3a",
    "bad": "#a8381c",
    "unsure": "#7a5100",
    "good-1": "#e4f2ec",
    "good-2": "#c6e5d8",
    "good-3": "#a3d5c2",
    "bad-1": "#fdeee8",
    "bad-2": "#f9d5c7",
    "bad-3": "#f4b8a2",
}
"""Names of colours to `#rrggbb`; `good-1` to `bad-3` are grounds for text, from few to many."""

DARK = {
    "page": "#111614",
    "card": "#1a211f",
    "text": "#e6ecea",
    "muted": "#a6b3ae",
    "line": "#35403c",
    "track": "#2b3532",
    "accent": "#5fcab8",
    "good": "#7fd6a0",
    "bad": "#ff9f85",
    "unsure": "#e9c46a",
    "good-1": "#193029",
    "good-2": "#1d4438",
    "good-3": "#215a49",
    "bad-1": "#38201a",
    "bad-2": "#532a1f",
    "bad-3": "#703524",
}
"""The same names, for readers whose system asks for dark pages; paper is always light."""

_HERE = Path(__file__).parent


def piece_styles() -> str:
    """The style sheet of the pieces. Its variables begin with `--r-`, and all its classes with `r-`."""
    light, dark = (
        "".join(f"--r-{name}:{colour};" for name, colour in colours.items()) for colours in (LIGHT, DARK)
    )
    rules = (_HERE / "pieces.css").read_text(encoding="utf-8")
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}"


def page_styles() -> str:
    """The style sheet of a whole page: that of the pieces, and what stands around them."""
    return piece_styles() + (_HERE / "page.css").read_text(encoding="utf-8")
