"""Results go to stdout, messages to stderr; a file of another task is not replaced."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import assert_refused
from make_corpus import CORPUS
from scenes import CLASSES, write_photos

from qprompt_runtime.prompt_file import read_prompt_file

# ---------------------------------------------------------------------- stdout and stderr


def test_predict_writes_a_row_for_each_photo(run, photos, prompt):
    (photos / "bad.jpg").write_text("no photo")
    result = run("predict", photos, "--prompt", prompt, "--top-k", 2)
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert len(rows) == 18
    for path, first, probability, second, less in rows:
        assert Path(path).is_file()
        assert {first, second} <= set(CLASSES)
        assert 1 >= float(probability) >= float(less) >= 0
    assert result.code == 1
    assert result.err.splitlines()[-1] == "error: 1 of 19 files could not be read"


def test_a_row_is_written_as_soon_as_its_photo_is_done(run, photos, prompt, monkeypatch, capsys):
    from qprompt_runtime.classifier import PromptClassifier

    plain, seen = PromptClassifier.encode_images, []

    def watched(self, pixels):
        seen.append(capsys.readouterr().out.count("\n"))
        return plain(self, pixels)

    monkeypatch.setattr(PromptClassifier, "encode_images", watched)
    assert run("predict", photos, "--prompt", prompt, "--threads", 1).code == 0
    assert seen == [0] + [1] * 17


def test_predict_draws_a_table_on_a_terminal(run, photos, prompt, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    result = run("predict", photos / CLASSES[0] / "00.png", "--prompt", prompt)
    title, headings, row = re.sub(r"\x1b\[\d*m", "", result.out).splitlines()
    assert (title.strip(), headings.split()) == ("1 photo", ["image", "class"])
    assert row.rstrip().endswith("%")


def test_rows_go_into_the_file_while_bars_are_drawn_on_the_terminal(photos, prompt, tmp_path):
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "qprompt_edge", "predict", photos, "--prompt", prompt]
    with (tmp_path / "answers.tsv").open("wb") as answers:
        subprocess.run(command, stdout=answers, stderr=end, check=True)
    os.close(end)
    drawn = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while more := os.read(terminal, 65536):
            drawn += more
    os.close(terminal)
    assert "classifying" in drawn.decode()
    assert (tmp_path / "answers.tsv").read_text().count("\n") == 18


def test_a_name_with_a_tab_stays_one_cell(run, tmp_path):
    photos = write_photos(tmp_path / "photos", classes=("a\tb", "plain"))
    out = tmp_path / "p.qpt"
    assert run("adapt", photos, "--out", out, "--epochs", 1).code == 0
    rows = run("predict", photos, "--prompt", out).out.splitlines()
    assert all(row.count("\t") == 2 for row in rows)


def test_adapt_puts_its_verdict_on_stdout_and_the_file_on_stderr(run, photos, tmp_path):
    result = run("adapt", photos, "--out", tmp_path / "p.qpt", "--epochs", 1)
    assert "zero-shot" in result.out
    assert "Too close to call with 3 photos" in result.out
    assert result.err.splitlines()[-1].startswith("wrote ")


def test_json_stands_alone_on_stdout(run, photos, prompt):
    for command in (("eval", "--images", photos, "--prompt", prompt), ("inspect", prompt), ("backbones",)):
        plain, as_json = run(*command), run(*command, "--json")
        assert plain.out
        assert as_json.json
        assert as_json.err == plain.out + plain.err


def test_backbones_are_named_in_short_and_described_in_full(run):
    short, full = run("backbones").out, run("backbones", "--details").out
    assert [line.split()[0] for line in short.splitlines()] == ["Installed", "name", "small"]
    assert full.startswith(short)
    assert "\n  precision           fp16, int8\n" in full
    assert "pacs-photo 83" in full


# ---------------------------------------------------------------------- adapt's folder


def test_the_folder_is_an_argument_or_an_option(run, photos, tmp_path):
    assert run("adapt", photos, "-o", tmp_path / "a.qpt", "--epochs", 1).code == 0
    assert run("adapt", "--images", photos, "-o", tmp_path / "b.qpt", "--epochs", 1).code == 0
    assert (tmp_path / "a.qpt").read_bytes() == (tmp_path / "b.qpt").read_bytes()
    twice = run("adapt", photos, "--images", photos)
    assert (twice.code, twice.out) == (2, "")
    assert "once" in twice.err
    none = run("adapt")
    assert none.code == 2
    assert "PHOTOS is missing" in none.err


# ---------------------------------------------------------------------- files that stand there already


def test_the_same_task_replaces_its_own_file(run, photos, prompt):
    assert run("adapt", photos, "--out", prompt, "--epochs", 2, "--seed", 2).code == 0


def test_another_task_needs_force(run, prompt, tmp_path):
    before = prompt.read_bytes()
    others = write_photos(tmp_path / "others", classes=("cat", "dog"))
    refused = run("adapt", others, "--out", prompt, "--epochs", 1, "--json")
    assert_refused(refused, prompt.name, *CLASSES, "--force")
    assert prompt.read_bytes() == before
    assert run("adapt", others, "--out", prompt, "--epochs", 1, "--force").code == 0
    assert [name.label for name in read_prompt_file(prompt).classes] == ["cat", "dog"]


@pytest.mark.parametrize("content", [b"", b"my thesis", b"\xd9\xd9\xf7"])
def test_what_is_no_prompt_file_needs_force(run, photos, tmp_path, content):
    out = tmp_path / "p.qpt"
    out.write_bytes(content)
    assert_refused(run("adapt", photos, "--out", out, "--json"), "not a readable prompt file", "--force")
    assert out.read_bytes() == content
    assert run("adapt", photos, "--out", out, "--epochs", 1, "--force").code == 0


def test_convert_replaces_by_the_same_rule(run, prompt, tmp_path):
    out = tmp_path / "p.safetensors"
    assert run("convert", prompt, "-o", out).code == 0
    assert run("convert", prompt, "-o", out, "--bits", 4).code == 0
    before = out.read_bytes()
    refused = run("convert", prompt, "-o", out, "--classes", "cat,dog", "--json")
    assert_refused(refused, "p.safetensors", CLASSES[0], "--force")
    assert out.read_bytes() == before
    assert run("convert", prompt, "-o", out, "--classes", "cat,dog", "--force").code == 0
    out.write_text("notes")
    assert_refused(run("convert", prompt, "-o", out, "--json"), "not a readable prompt file", "--force")


# ---------------------------------------------------------------------- inspect


def test_inspect_is_a_page(run, prompt):
    page = run("inspect", prompt).out
    assert page.startswith(f"{prompt}: a prompt for 3 classes, {prompt.stat().st_size} bytes\n")
    for line in ("What it tells apart", "What was tuned", "What it runs on"):
        assert f"\n\n{line}\n" in page
    assert all(label in page for label in CLASSES)
    assert "[learned vectors] [class]." in page


def test_inspect_names_only_the_first_of_many_classes(run, prompt, tmp_path):
    out = tmp_path / "many.qpt"
    names = ",".join(f"thing{i}" for i in range(100))
    assert run("convert", prompt, "-o", out, "--classes", names).code == 0
    page = run("inspect", out).out
    assert "thing39, and 60 more" in page
    assert "thing40" not in page


def test_inspect_shows_everything_that_a_file_holds(run):
    path = CORPUS / "v2-qtaskres-everything.qpt"
    page = run("inspect", path).out
    for line in (
        "by their names alone  猫",
        "sentence              a photo of a [class].",
        "class-residuals  2 x 8 at 2 bits, values -0.1439, -0.1155, 0.04419, 0.1807, "
        "times a scale a row, 0.4961 to 1.074",
        "photos a class   red_square 16, ok 3, 猫 0",
        "format       version 2",
        "scores      80% of known photos score at least 0.25, 90% 0.1875, 95% 0.125, 98% 0.125, 99% -0.0625",
        "by default  87.5% of known photos pass",
        "key 17  0 bytes\n  key 22  40 bytes",
    ):
        assert f"\n  {line}\n" in page
    report = run("inspect", path, "--json").json
    assert (report["format_version"], report["contexts"], report["context_length"]) == (2, "none", 0)
    assert [group["rows"] for group in report["groups"]] == [[0, 1], [0, 1]]
    assert report["groups"][0]["scales"] == [0.49609375, 1.07421875]
    assert report["photos"] == [16, 3, 0]
    assert report["optional_keys"] == [{"key": 17, "bytes": 0}, {"key": 22, "bytes": 40}]
    assert report["calibration"] == {
        "logit_scale": 50.0,
        "accept_scores": [0.25, 0.1875, 0.125, 0.125, -0.0625],
        "accept": 0.875,
        "accept_shares": [0.8, 0.9, 0.95, 0.98, 0.99],
    }


def test_inspect_says_that_nothing_is_refused_by_default(run):
    page = run("inspect", CORPUS / "v2-qtaskres-scores.qpt").out
    assert "\n  by default  no photo is refused\n" in page
    assert "by their names alone" not in page


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.qpt")), ids=lambda path: path.stem)
def test_inspect_shows_every_file_of_the_corpus(run, path):
    assert run("inspect", path).code == 0
    report = run("inspect", path, "--json").json
    assert report["format_version"] == int(path.name[1])
    assert report["file_bytes"] == path.stat().st_size


def test_inspect_a_bundle_is_a_page(run):
    page = run("inspect", "small").out
    for words in ("What goes in and out", "224 x 224 pixels", "How it is stored", "tokenizer.json"):
        assert words in page
    assert max(map(len, page.splitlines())) < 200
