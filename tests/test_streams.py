"""stdout and stderr that take nothing, or not every letter.

Those of a service, of a full disk, or of another encoding.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY_FOLDER
from other_machines import assert_one_error, qprompt_edge
from prompts import TINY
from scenes import write_photo

from qprompt_edge.cli.streams import beside_a_file
from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import read_prompt_file, write_prompt_file

FULL = pytest.param("> /dev/full", "No space left on device", id="full")
CLOSED = pytest.param(">&-", "it is closed", id="closed")


@pytest.fixture
def predict(tiny: Backbone, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Predict the photos of a folder that is empty at first."""
    (tmp_path / "seen").mkdir()
    context = make_group("text-context", tiny.embed_text("a photo of a"), 32)
    write_prompt_file(tmp_path / "p.qpt", replace(TINY, groups=(context,), fingerprint=tiny.fingerprint))
    words = ("predict", "seen", "--prompt", "p.qpt", "--backbone", TINY_FOLDER)
    return lambda *options, **settings: qprompt_edge(*words, *options, folder=tmp_path, **settings)


@pytest.mark.parametrize(("streams", "reason"), [FULL, CLOSED])
def test_results_that_cannot_be_written_are_one_line(predict, tmp_path, streams, reason):
    write_photo(tmp_path / "seen" / "a.png", (40, 80, 220), 1)
    for options in ((), ("--json",), ("--csv",)):
        assert_one_error(predict(*options, streams=streams), "cannot write the results to stdout", reason)


@pytest.mark.parametrize(("streams", "reason"), [FULL, CLOSED])
@pytest.mark.parametrize("words", [("--help",), ("--version",), ("backbones",)])
def test_so_are_a_help_a_version_and_a_list(words, streams, reason):
    assert_one_error(qprompt_edge(*words, streams=streams), "cannot write the results to stdout", reason)


@pytest.mark.parametrize("streams", ["2>&-", "2> /dev/full"])
def test_messages_that_nobody_reads_are_no_reason_to_fail(predict, tmp_path, streams):
    write_photo(tmp_path / "seen" / "a.png", (40, 80, 220), 1)
    (tmp_path / "seen" / "bad.jpg").write_text("no photo")
    done = predict(streams=streams)
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (
        1,
        1,
        b"",
    )  # 1 for the file that is no photo


@pytest.mark.parametrize(
    ("streams", "code"), [(">&- 2>&-", 0), (">&-", 0), ("2>&-", 0), ("2> /dev/full", 0), ("> /dev/full", 1)]
)
def test_adapt_writes_the_prompt_whatever_becomes_of_the_words(photos, tmp_path, streams, code):
    out = tmp_path / "made.qpt"
    done = qprompt_edge(
        "adapt", photos, "--out", out, "--epochs", 1, "--backbone", TINY_FOLDER, streams=streams
    )
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert read_prompt_file(out).classes
    if streams == ">&-":
        assert b"linear probe" in done.stderr  # beside a file, words may go there
    if code == 1:
        assert done.stderr.decode().splitlines()[-1].endswith(f"the prompt is written to {out}")


def test_json_that_was_asked_for_and_has_no_place_is_an_error(photos, tmp_path):
    out = tmp_path / "made.qpt"
    words = ("adapt", photos, "--out", out, "--epochs", 1, "--backbone", TINY_FOLDER, "--json")
    done = qprompt_edge(*words, streams=">&-")
    assert done.returncode == 1
    assert "stdout: it is closed; the prompt is written" in done.stderr.decode().splitlines()[-1]
    assert read_prompt_file(out).classes


def test_no_file_of_ours_gets_the_number_of_a_closed_stream(tmp_path):
    code = (
        "import os, sys; from qprompt_edge.cli.streams import open_streams, beside_a_file\n"
        "open_streams(); print('lost', file=sys.stderr)\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w'); os.write(2, b'native'); os.write(1, b'native')\n"
        "file.write(f'{file.fileno() > 2} {beside_a_file(False)}')"
    )
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "True True"


def test_a_stream_that_somebody_has_replaced_stays(capsys):
    assert not beside_a_file(as_json=False)
    assert beside_a_file(as_json=True)


# ---------------------------------------------------------------------- names that a stream cannot write

ENCODINGS = [{"LC_ALL": "C.UTF-8"}, {"PYTHONIOENCODING": "utf-8:strict"}, {"PYTHONIOENCODING": "ascii"}]


@pytest.mark.parametrize("environment", ENCODINGS, ids=str)
@pytest.mark.parametrize(("option", "between"), [("--csv", b","), (None, b"\t"), ("--json", None)])
def test_a_name_that_the_stream_has_no_letters_for_is_escaped(
    predict, tmp_path, environment, option, between
):
    folder = os.fsencode(tmp_path / "seen")
    try:
        (tmp_path / "seen" / os.fsdecode(b"caf\xe9.png")).touch()
    except OSError:
        pytest.skip("names must be UTF-8 on this file system")
    for name in (b"caf\xe9.png", "本.png".encode()):
        write_photo(Path(os.fsdecode(folder + b"/" + name)), (40, 80, 220), 1)
    done = predict(*([option] if option else []), environment=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\r" not in done.stdout
    rows = done.stdout.splitlines()[option == "--csv" :]
    if between is None:
        shown = [row.split(b'"')[3] for row in rows]
    else:
        shown = [row.split(between)[0] for row in rows]
    plain = (
        "seen/本.png".encode()
        if environment != {"PYTHONIOENCODING": "ascii"} and between
        else rb"seen/\u672c.png"
    )
    assert sorted(shown) == sorted([rb"seen/caf\udce9.png", plain])


def test_csv_ends_its_lines_as_unix_does(predict, tmp_path):
    write_photo(tmp_path / "seen" / "a,b.png", (40, 80, 220), 1)
    heading, row = predict("--csv").stdout.decode().split("\n")[:2]
    assert heading == "image,label,probability"
    assert row.startswith('"seen/a,b.png",')
    assert not row.endswith("\r")
