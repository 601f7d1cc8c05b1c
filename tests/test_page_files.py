"""The files of the page of `serve`: what can be told of them without a browser."""

import re
from itertools import product
from pathlib import Path

import pytest

STATIC = Path(__file__).parent.parent / "qprompt_edge" / "server" / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))
STYLES = sorted(STATIC.glob("*.css"))
TEXT, LARGE = 4.5, 3.0
"""WCAG 2.2 AA: text, and what is large or no text."""
PAIRS = [
    *product(("text", "muted", "accent"), ("ground", "surface"), (TEXT,)),
    *product(("text", "muted"), ("sunken",), (TEXT,)),
    *product(("good", "warn", "bad"), ("surface",), (TEXT,)),
    ("on-accent", "accent", TEXT),
    ("on-soft", "accent-soft", TEXT),
    ("text", "accent-soft", TEXT),
    ("good", "good-soft", TEXT),
    ("warn", "warn-soft", TEXT),
    ("bad", "bad-soft", TEXT),
    ("text", "good-soft", TEXT),
    ("text", "bad-soft", TEXT),
    ("on-bad", "bad", TEXT),
    ("surface", "text", TEXT),  # a notice
    *product(
        ("edge", "focus"), ("ground", "surface"), (LARGE,)
    ),  # borders of what can be used; where the keyboard is
    *product(("accent",), ("sunken", "accent-soft"), (LARGE,)),  # progress; the line on its band
]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def palettes() -> dict[str, dict[str, str]]:
    """The colours of each scheme, as six hexadecimal digits; dark ones stand on light ones."""
    light, dark = re.findall(r":root \{(.*?)\}", read(STATIC / "palette.css"), re.DOTALL)
    found = {
        name: dict(re.findall(r"--([\w-]+): #([0-9a-f]{6});", block))
        for name, block in (("light", light), ("dark", dark))
    }
    assert found["light"].keys() == found["dark"].keys()
    return found


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_wcag_does() -> None:
    assert contrast("000000", "ffffff") == pytest.approx(21)
    assert contrast("777777", "ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("front", "ground", "least"), PAIRS)
def test_colours_stand_out(scheme: str, front: str, ground: str, least: float) -> None:
    palette = palettes()[scheme]
    found = contrast(palette[front], palette[ground])
    assert found >= least, f"{front} on {ground} in {scheme}: {found:.2f}, expected {least}"


@pytest.mark.parametrize("style", STYLES, ids=lambda path: path.name)
def test_colours_come_from_the_palette(style: Path) -> None:
    known = set(re.findall(r"--([\w-]+):", "".join(map(read, STYLES)))) | {
        "side",
        "share",
    }  # these are set by scripts
    assert set(re.findall(r"var\(--([\w-]+)", read(style))) <= known
    if style.name != "palette.css":
        assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[^{]*;)", read(style))


def test_the_page_itself_has_no_code_and_no_style_in_it() -> None:
    """A strict content security policy would refuse them."""
    page = read(STATIC / "index.html")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", page)
    named = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert named
    for name in named:
        assert name.startswith("/static/")
        file = name.removeprefix("/static/")
        assert (STATIC / file).is_file() or file == "pieces.css", name  # which reports and the page share


@pytest.mark.parametrize("path", [*SCRIPTS, *STYLES, STATIC / "index.html"], ids=lambda path: path.name)
def test_nothing_comes_from_outside(path: Path) -> None:
    assert set(re.findall(r"https?://[^\"'\s)]*", read(path))) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(\s*[\"']?//", read(path))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_text_never_becomes_markup_or_code(script: Path) -> None:
    """But for pieces of reports, in which the device has escaped all text."""
    unsafe = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|"
        r"setAttribute\(\"style\"|srcdoc"
    )
    shown = read(script).replace('new DOMParser().parseFromString(html, "text/html")', "", 1)
    assert not re.search(unsafe, shown if script.name == "dom.js" else read(script))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_what_is_there(script: Path) -> None:
    for names, source in re.findall(r"import \{([^}]*)\} from \"\./([^\"]+)\"", read(script)):
        there = read(STATIC / source)
        body = re.sub(r"import \{[^}]*\} from", "", read(script))
        for name in (it.strip() for it in names.split(",") if it.strip()):
            assert re.search(rf"export (?:async )?(?:function|class|const) {name}\b", there), (
                f"{source} has no {name}"
            )
            assert re.search(rf"\b{name}\b", body), f"{name} is imported, and not used"


def test_every_word_is_in_one_place_and_used() -> None:
    strings = read(STATIC / "strings.js")
    keys = set(re.findall(r"^  (\w+):", strings, re.MULTILINE))
    others = "".join(read(path) for path in SCRIPTS if path.name != "strings.js")
    used = set(re.findall(r"\bS\.(\w+)", others))
    assert used - keys == set()
    assert keys - used == set()


@pytest.mark.parametrize("path", [*SCRIPTS, *STYLES], ids=lambda path: path.name)
def test_files_are_small(path: Path) -> None:
    assert len(read(path).splitlines()) < 300 or path.name == "strings.js"  # all words in one place
