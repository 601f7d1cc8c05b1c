"""`adapt --report` and `eval --report`: the page says what the result says, and is written as `--out` is."""

from itertools import pairwise
from pathlib import Path

import pytest
from command_line import assert_refused
from conftest import TINY_FOLDER
from pages import loaded, tags_of, text_of
from scenes import CLASSES, write_photo, write_photos

from qprompt_runtime.text import percent

TINY = ("--backbone", TINY_FOLDER, "--epochs", 1)
HOSTILE = "<img src=x onerror=alert(1)>"
MOST_BYTES = 1_000_000


def read(path: Path) -> str:
    """A page, which must be whole, closed to the outside, and of bounded size."""
    page = path.read_text(encoding="utf-8")
    assert all(address.startswith("data:image/jpeg;base64,") for address in loaded(page))
    assert not {"script", "iframe", "object", "form", "base", "link"} & {tag for tag, _ in tags_of(page)}
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert len(page.encode()) < MOST_BYTES
    assert_accessible(page)
    return page


def assert_accessible(page: str) -> None:
    """What a screen reader needs: a language, headings in order, captions, scopes, names of pictures."""
    tags = tags_of(page)
    assert dict(tags)["html"] == {"lang": "en"}
    headings = [int(tag[1]) for tag, _ in tags if tag in ("h1", "h2", "h3", "h4")]
    assert headings.count(1) == 1
    assert headings[0] == 1
    assert all(following <= one + 1 for one, following in pairwise(headings))
    names = [tag for tag, _ in tags]
    assert all(following == "caption" for tag, following in pairwise(names) if tag == "table")
    assert all(attributes.get("scope") for tag, attributes in tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    drawn = [attributes for tag, attributes in tags if tag == "svg"]
    assert all("aria-hidden" in it or (it["role"], bool(it["aria-label"])) == ("img", True) for it in drawn)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_of_adapt_says_what_its_result_says(run, photos, tmp_path):
    (photos / CLASSES[0] / "broken.jpg").write_text("no photo")
    out, report = tmp_path / "belt.qpt", tmp_path / "new" / "belt.html"
    arguments = ("--holdout", 0.5, "--out", out, "--report", report, *TINY)
    plain = run("adapt", photos, *arguments)
    assert plain.code == 0, plain.err
    assert plain.err.splitlines()[-1] == f"wrote {report}: the report, to be opened in a browser"
    result = run("adapt", photos, *arguments, "--json").json
    text = text_of(read(report))
    assert result["report"] == str(report)
    for name in ("zero_shot", "context", "adapted", "probe"):
        assert percent(result["holdout"][name]["top1"]) in text
    assert f"{100 * result['difference']:+.1f} points" in text
    assert f"{100 * result['interval'][0]:+.1f} to {100 * result['interval'][1]:+.1f} points" in text
    assert f"{result['bytes']:,} " in text
    assert f"tuned on {result['images']['train']} photos" in text
    assert result["backbone"]["fingerprint"] in text
    assert "broken.jpg" in text
    assert "What a check of the photos found" in text
    assert "Are there enough photos?" in text
    shown = len(list(loaded(report.read_text())))
    assert shown >= len(result["mistakes"]) > 0
    for mistake in result["mistakes"]:
        assert percent(mistake["probability"]) in text


def test_the_page_of_eval_says_what_its_result_says(run, photos, prompt, tmp_path):
    report = tmp_path / "eval.html"
    for number in range(3):
        write_photo(photos / CLASSES[2] / f"wrong-{number}.png", (40, 80, 220), 500 + number)
    result = run("eval", "--images", photos, "--prompt", prompt, "--report", report, "--json")
    assert result.code == 0, result.err
    found, text = result.json, text_of(read(report))
    assert found["report"] == str(report)
    assert percent(found["top1"]) in text
    assert percent(found["zero_shot"]["top1"]) in text
    assert percent(found["ece"]) in text
    assert f"{len(found['mistakes'])} photos taken for another class" in text
    assert len(list(loaded(report.read_text()))) >= len(found["mistakes"]) > 0
    assert "What a check of the photos found" in text


def test_without_a_report_none_is_written(run, photos, tmp_path):
    result = run("adapt", photos, "--out", tmp_path / "p.qpt", *TINY, "--json")
    assert result.json["report"] is None
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == []


def test_a_page_where_nothing_was_held_out(run, photos, tmp_path):
    report = tmp_path / "r.html"
    assert run("adapt", photos, "--holdout", 0, "-o", tmp_path / "p.qpt", "--report", report, *TINY).code == 0
    text = text_of(read(report))
    assert "Not judged" in text
    assert "10 to 30 are a good start: blue sky (6), green grass (6), red brick (6)." in text


@pytest.mark.parametrize("method", ["qtaskres", "qcoop", "qmaple"])
def test_every_kind_of_prompt_has_its_page(run, photos, tmp_path, method):
    report = tmp_path / "r.html"
    arguments = ("--method", method, "--out", tmp_path / "p.qpt", "--report", report, *TINY)
    assert run("adapt", photos, *arguments).code == 0
    text = text_of(read(report))
    assert "context alone" not in text  # not tuned, or the whole prompt
    assert "with the prompt the file that this report is about" in text


def test_hostile_names_stay_text(run, tmp_path):
    photos = write_photos(tmp_path / "a<b>&", classes=(HOSTILE, "plain"), count=8)
    report = tmp_path / "r.html"
    arguments = ("--holdout", 0.5, "--out", tmp_path / f"{HOSTILE}.qpt", "--report", report, *TINY)
    assert run("adapt", photos, *arguments).code == 0
    page = read(report)
    assert HOSTILE not in page
    assert HOSTILE in text_of(page)
    assert not [name for _, attributes in tags_of(page) for name in attributes if name.startswith("on")]


# ---------------------------------------------------------------------- where it is written


def test_a_place_that_cannot_be_written_is_refused_before_the_photos_are_read(run, tmp_path):
    (tmp_path / "file").write_text("")
    for report, words in ((tmp_path, "Is a directory"), (tmp_path / "file" / "r.html", "Not a directory")):
        for command in (("adapt", "nowhere"), ("eval", "--images", "nowhere", "--prompt", "no.qpt")):
            result = run(*command, "--report", report, "--json")
            assert_refused(result, "cannot write", str(report), words)


def test_only_a_page_is_replaced(run, photos, tmp_path, prompt):
    notes, out = tmp_path / "notes.txt", tmp_path / "p.qpt"
    notes.write_text("mine")
    assert_refused(
        run("adapt", photos, "--out", out, "--report", notes, "--json"),
        "notes.txt exists and is no HTML page",
    )
    assert_refused(run("adapt", photos, "--out", out, "--report", out, "--json"), "p.qpt is the prompt file")
    assert_refused(
        run("eval", "--images", photos, "--prompt", prompt, "--report", prompt, "--json"), "made.qpt"
    )
    assert notes.read_text() == "mine"
    assert not out.exists()
    report = tmp_path / "r.html"
    report.write_text("<!DOCTYPE html>\n<title>an older one</title>")
    assert run("eval", "--images", photos, "--prompt", prompt, "--report", report).code == 0
    assert "an older one" not in read(report)
