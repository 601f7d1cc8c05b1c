"""The command line as people and scripts meet it: exit codes, one-line errors, JSON."""

import csv
import gc
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused
from PIL import Image
from scenes import CLASSES, write_photos

from qprompt_edge.cli import _spare_last_look
from qprompt_edge.cli.output import say, show
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import read_prompt_file, write_prompt_file


def test_wrong_usage_is_2(run):
    assert run("adapt").code == 2
    assert run("adapt", "--images", "x", "--bits", 5).code == 2
    assert run("no-such-command").code == 2


def in_a_process(*arguments: object, then: str) -> str:
    """Run the command line in a process of its own, where nothing is imported yet.

    Returns what `then` prints after it.
    """
    code = f"""
import gc, sys
from qprompt_edge.cli import main
sys.argv = ["qprompt-edge", *{[str(argument) for argument in arguments]!r}]
try: main()
except SystemExit: pass
print({then})"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()[-1]


def test_predict_imports_no_other_command_and_no_room_that_it_does_not_need():
    modules = in_a_process(
        "predict", "--help", then="*(m for m in sys.modules if m.startswith('qprompt_edge.'))"
    )
    loaded = set(modules.split())
    commands = loaded & {f"qprompt_edge.cli.{name}" for name in ("adapt", "convert", "evaluate", "reproduce")}
    assert "qprompt_edge.cli.predict" in loaded
    assert not commands
    assert {name.split(".")[1] for name in loaded} == {"cache", "cli", "data", "memory", "reporter"}


@pytest.mark.parametrize("kind", ["Jpeg", "Png"])
def test_predict_of_a_photo_imports_what_that_photo_needs(run, prompt, tmp_path, kind):
    """The photo's class features are in the cache.

    So nothing is imported that reads text, draws tables, reads other formats or archives, or loads OpenSSL,
    unless the libraries do.
    """
    photo = tmp_path / f"photo.{kind.lower()}"
    Image.new("RGB", (64, 64)).save(photo)
    assert run("predict", photo, "--prompt", prompt).code == 0
    loaded = set(in_a_process("predict", photo, "--prompt", prompt, then="*sys.modules").split())
    others = {f"PIL.{name}ImagePlugin" for name in ("Jpeg", "Png", "Tiff", "Gif", "WebP")} - {
        f"PIL.{kind}ImagePlugin"
    }
    text = {"html", "regex", "ftfy", "rich.table", "rich.progress"}
    assert f"PIL.{kind}ImagePlugin" in loaded
    large = {"_hashlib", "concurrent.futures", "pillow_heif", "qprompt_runtime.jpeg_scans", "zipfile"}
    code = "import numpy, onnxruntime, sys, PIL.Image; print(*sys.modules)"  # old versions load some of these
    needed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not (loaded & (others | text | large)) - set(needed.stdout.split())


@pytest.mark.parametrize(("given", "expected"), [(None, "22"), ("30", "30")])
def test_idle_threads_of_numpys_library_sleep_soon(given, expected, monkeypatch):
    """Unless the user wants something else."""
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    if given:
        monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", given)
    assert (
        in_a_process("backbones", "list", then="__import__('os').environ['OPENBLAS_THREAD_TIMEOUT']")
        == expected
    )


def test_a_command_starts_without_looking_for_garbage_and_runs_with_it():
    """The modules are then outside of what is looked through, also when Python ends."""
    answer = in_a_process("backbones", "list", then="gc.isenabled(), gc.get_freeze_count() > 10_000")
    assert answer == "True True"


def test_with_torch_python_looks_through_all_modules_at_its_end(monkeypatch):
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    monkeypatch.setitem(sys.modules, "torch", sys)
    _spare_last_look()
    assert frozen == []
    monkeypatch.delitem(sys.modules, "torch")
    _spare_last_look()
    assert frozen == [True]


def test_a_32_bit_python_is_told_so(run, monkeypatch):
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    result = run("backbones")
    assert result.code == 1
    assert "64-bit" in result.err


def test_a_name_that_would_move_the_cursor_is_shown(capsys):
    say("skipped a\rb\x1b[2Jc.jpg")
    assert capsys.readouterr().err == r"skipped a\rb\x1b[2Jc.jpg" + "\n"


@pytest.mark.parametrize(("print_line", "stream"), [(say, "stderr"), (show, "stdout")])
def test_a_sentence_is_broken_between_words_on_a_terminal_only(print_line, stream, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    sentence = "two words, /a/path/longer-than-the-terminal, and words"
    print_line(sentence)
    monkeypatch.setattr(getattr(sys, stream), "isatty", lambda: True, raising=False)
    print_line(sentence)
    whole, *lines = getattr(capsys.readouterr(), stream[3:]).splitlines()
    assert whole == sentence
    assert lines == ["two words,", "/a/path/longer-than-the-terminal,", "and words"]


def test_ctrl_c_while_a_library_is_imported_is_an_interruption(run, monkeypatch):
    """C modules turn it into an ImportError; one that is none keeps its traceback."""
    failed = ImportError("initialization failed")

    def start(*_arguments: object, **_named: object) -> None:
        raise failed

    monkeypatch.setattr("qprompt_edge.cli.app.app", start)
    with pytest.raises(ImportError):
        run("backbones")
    failed.__cause__ = KeyboardInterrupt()
    assert run("backbones").code == 130


# ---------------------------------------------------------------------- predict


def test_predict_json_is_a_line_for_each_photo(run, photos, prompt):
    result = run("predict", photos, "--prompt", prompt, "--json", "--top-k", 2)
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert len(lines) == 18
    assert all(len(line["predictions"]) == 2 for line in lines)
    assert all(0 <= item["probability"] <= 1 for line in lines for item in line["predictions"])


def test_predict_csv(run, photos, prompt):
    result = run("predict", photos, "--prompt", prompt, "--csv")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert len(rows) == 18
    assert set(rows[0]) == {"image", "label", "probability"}


def test_predict_answers_the_rest_and_exits_with_1(run, photos, prompt):
    (photos / "bad.jpg").write_text("no photo")
    result = run("predict", photos, "--prompt", prompt, "--json")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert result.code == 1
    assert len(lines) == 19
    assert [Path(line["image"]).name for line in lines if "error" in line] == ["bad.jpg"]
    assert run("predict", photos, "--prompt", prompt).code == 1


def test_predict_with_other_classes(run, photos, prompt):
    result = run("predict", photos, "--prompt", prompt, "--classes", "cat, dog", "--top-k", 5, "--json")
    first = json.loads(result.out.splitlines()[0])
    assert {item["label"] for item in first["predictions"]} == {"cat", "dog"}
    assert sum(item["probability"] for item in first["predictions"]) == pytest.approx(1, abs=1e-5)


def test_predict_refuses(run, photos, prompt, tmp_path):
    assert_refused(run("predict", tmp_path / "none.jpg", "--prompt", prompt, "--json"), "no such file")
    assert_refused(run("predict", photos, "--prompt", tmp_path / "none.qpt", "--json"), "none.qpt")
    assert_refused(run("predict", photos, "--prompt", prompt, "--classes", "cat", "--json"), "--classes")
    assert run("predict", photos, "--prompt", prompt, "--csv", "--json").code == 2
    damaged = tmp_path / "damaged.qpt"
    damaged.write_bytes(prompt.read_bytes()[:-1])
    assert_refused(run("predict", photos, "--prompt", damaged, "--json"), "damaged.qpt")


def test_a_prompt_for_another_backbone_names_both(run, photos, prompt, tmp_path):
    other = tmp_path / "other.qpt"
    write_prompt_file(
        other, replace(read_prompt_file(prompt), backbone_name="ViT-B-16", fingerprint=bytes(16))
    )
    result = run("predict", photos, "--prompt", other, "--backbone", "small", "--json")
    assert_refused(result, "'ViT-B-16'", "'small'")


# ---------------------------------------------------------------------- eval, inspect, backbones, export


def test_eval_prints_what_the_design_promises(run, photos, prompt):
    (photos / CLASSES[0] / "bad.jpg").write_text("no photo")
    report = run("eval", "--images", photos, "--prompt", prompt, "--json").json
    assert {"top1", "n", "per_class", "confusion", "ece", "zero_shot", "mistakes"} <= set(report)
    assert report["n"] == 18
    assert len(report["mistakes"]) == round(18 * (1 - report["top1"]))
    assert sum(map(sum, report["confusion"]["counts"])) == 18
    assert len(report["skipped"]) == 1


def test_eval_keeps_features_and_says_the_same_of_them_to_the_last_bit(
    run, photos, prompt, tmp_path, monkeypatch
):
    passes, encode = [], Backbone.encode_images

    def counted(self: Backbone, pixels: np.ndarray) -> np.ndarray:
        passes.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Backbone, "encode_images", counted)
    command = ("eval", "--images", photos, "--prompt", prompt, "--json")
    first = run(*command).json
    assert sum(passes) == 18
    assert run(*command).json == first
    report = run(*command, "--report", tmp_path / "eval.html")
    assert report.json == first | {"report": str(tmp_path / "eval.html")}
    assert report.err.splitlines()[-1].startswith("top-1")
    assert sum(passes) == 18


def test_eval_with_a_class_that_the_prompt_does_not_know(run, prompt, tmp_path):
    tests = write_photos(tmp_path / "tests", classes=("unheard of",))
    assert_refused(run("eval", "--images", tests, "--prompt", prompt, "--json"), "unheard of", CLASSES[0])


def test_inspect_prompt(run, prompt):
    report = run("inspect", prompt, "--json").json
    for key in ("format_version", "method", "bits", "context_length", "width", "weights", "payload_bytes"):
        assert key in report
    assert report["file_bytes"] == prompt.stat().st_size
    assert report["payload_bytes"] == report["weights"] // 8 + 4
    assert [item["label"] for item in report["classes"]] == list(CLASSES)


def test_inspect_what_is_not_there(run, tmp_path):
    assert_refused(run("inspect", tmp_path / "none.qpt", "--json"), "none.qpt")
    assert_refused(run("inspect", "no-such-backbone", "--json"), "no-such-backbone", "small")


def test_inspect_bundle(run):
    assert run("inspect", "small", "--json").json["name"] == "small"
    assert run("inspect", "small", "--verify", "--json").json["verified"] is True


def test_backbones_lists_the_shipped_one(run):
    (entry,) = run("backbones", "--json").json["backbones"]
    assert entry["name"] == "small"
    assert entry["bytes"] > 10**6


def test_export_without_the_exporters_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of torch fails from here on
    for name in [name for name in sys.modules if name.startswith("qprompt_exporters")]:
        monkeypatch.delitem(sys.modules, name)
    result = run("export", "--model", "ViT-B-16", "--out", tmp_path / "bundle", "--json")
    assert_refused(result, "qprompt-edge[export]")
