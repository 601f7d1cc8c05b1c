"""What a report says of the findings of `check`: their words, their pictures, the learning curve."""

from pathlib import Path

import pytest
from pages import loaded, tags_of, text_of
from scenes import write_photo

from qprompt_edge.checking.findings import (
    CurvePoint,
    Duplicates,
    LearningCurve,
    Mislabelled,
    MixedUp,
    PoorPhoto,
    ShortClass,
    Unreadable,
)
from qprompt_edge.checking.result import CheckResult
from qprompt_edge.checking.words import curve_lines, sections
from qprompt_edge.reporter import Reporter
from qprompt_edge.reporting import words
from qprompt_edge.reporting.findings import curve_svg, findings, photos_to_show
from qprompt_edge.reporting.gallery import pictures_of
from qprompt_edge.reporting.page import Section, report_page

HOSTILE = "<img src=x onerror=alert(1)>"
CURVE = LearningCurve(
    (CurvePoint(2, 0.5, (0.4, 0.6)), CurvePoint(4, 0.7, (0.6, 0.8)), CurvePoint(16, 0.9, (0.8, 0.95))),
    0.02,
    (-0.01, 0.05),
    None,
)


def checked(
    folder: Path, label: str = "cat", count: int = 1, curve: LearningCurve | None = CURVE
) -> CheckResult:
    """`count` findings of each kind, of photos that are there."""
    for number in range(count):
        write_photo(folder / "cat" / f"{number}.png", (40, 80, 220), number)
    paths = [folder / "cat" / f"{number}.png" for number in range(count)]
    poor = tuple(PoorPhoto(path, label, 0.1, 0.2) for path in paths)
    return CheckResult(
        classes={label: 20, "dog": 20},
        unreadable=tuple(Unreadable(path, "is empty") for path in paths),
        duplicates=tuple(Duplicates((path, path), (label, "dog"), True) for path in paths),
        blurred=poor,
        dark=poor,
        blown_out=poor,
        short_classes=tuple(ShortClass(label, 3, 2, 10) for _ in paths),
        mislabelled=tuple(Mislabelled(path, label, "dog", 0.75) for path in paths),
        mixed_up=tuple(MixedUp((label, "dog"), 40, 19, 0.5, (0.3, 0.7), True, (path,)) for path in paths),
        curve=curve,
        backbone="small",
        provider="CPUExecutionProvider",
        seconds={"encode": 1.0, "total": 2.0},
        peak_rss_mb=100.0,
    )


def page_of(result: CheckResult, folder: Path) -> str:
    paths = photos_to_show(result)
    pictures = dict(zip(paths, pictures_of(paths, folder, Reporter()), strict=True))
    body = findings(result, pictures, folder)
    return report_page("kind", "title", "lead", "", [Section("check", words.CHECKED, body)], [])


def test_each_kind_of_finding_has_its_words(tmp_path):
    result = checked(tmp_path)
    page = page_of(result, tmp_path)
    text = text_of(page)
    kinds = [section for section in sections(result) if section.kind != "unreadable"]
    assert len(kinds) == 7
    for section in kinds:
        assert section.title in text
        assert section.advice in text
    assert "cat looks like dog, doubt 75.0%" in text
    assert len(list(loaded(page))) == 4
    assert str(tmp_path) not in page
    assert "cat/0.png" in text


def test_of_many_findings_the_first_are_shown(tmp_path):
    page = page_of(checked(tmp_path, count=10), tmp_path)
    assert len(list(loaded(page))) == 32
    assert text_of(page).count("The first 8 are shown, 2 are left out here.") == 7


def test_names_in_findings_stay_text(tmp_path):
    page = page_of(checked(tmp_path, HOSTILE), tmp_path)
    assert HOSTILE not in page
    assert HOSTILE in text_of(page)
    assert not [name for _, attributes in tags_of(page) for name in attributes if name.startswith("on")]


def test_where_nothing_was_found(tmp_path):
    result = checked(tmp_path, count=0, curve=None)
    text = text_of(page_of(result, tmp_path))
    assert "Nothing wrong was found in 40 photos of 2 classes." in text
    assert curve_lines(result)[0] in text


def test_the_learning_curve(tmp_path):
    result = checked(tmp_path)
    text = text_of(page_of(result, tmp_path))
    for line in curve_lines(result):
        assert line in text
    tags = tags_of(curve_svg(CURVE))
    label = next(attributes["aria-label"] for tag, attributes in tags if tag == "svg")
    assert label == "Learning curve: 50.0% from 2 photos; 70.0% from 4 photos; 90.0% from 16 photos."
    dots = [(float(a["cx"]), float(a["cy"])) for tag, a in tags if tag == "circle"]
    assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
    (first, _), (second, _), (third, _) = dots
    assert third - second == pytest.approx(2 * (second - first), abs=0.2)  # each doubling is as wide
