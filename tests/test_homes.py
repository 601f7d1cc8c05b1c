"""Users without a home folder, with one that is not theirs, or with a cache that cannot be written.

The result is the same.
"""

import errno
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import assert_refused
from conftest import TINY_FOLDER
from other_machines import ANOTHER_USER, assert_one_error, needs_another_user, qprompt_edge

from qprompt_edge.adaptation.resume import WorkDir
from qprompt_edge.cache import cache_folder
from qprompt_runtime import files
from qprompt_runtime.bundle import user_folder
from qprompt_runtime.prompt_file import read_prompt_file

PLACES = ("QPE_CACHE", "QPE_BACKBONES", "XDG_CACHE_HOME", "XDG_DATA_HOME")
NOWHERE = dict.fromkeys(PLACES)
QUICK = ("--epochs", 1, "--backbone", TINY_FOLDER)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HOME, and no passwd entry."""

    def unknown(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in (*PLACES, "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.fixture
def forbidden(tmp_path: Path) -> Path:
    """A folder that nobody but root may look into."""
    folder = tmp_path / "forbidden"
    folder.mkdir()
    folder.chmod(0)
    return folder


# ---------------------------------------------------------------------- no home


@pytest.mark.usefixtures("homeless")
def test_without_a_home_there_is_nothing_and_nothing_is_kept(
    run: Callable, photos: Path, tmp_path: Path
) -> None:
    assert cache_folder() is user_folder() is None
    assert [entry["name"] for entry in run("backbones", "--json").json["backbones"]] == ["small"]
    prompt = tmp_path / "made.qpt"
    assert run("adapt", photos, "--out", prompt, *QUICK).code == 0
    assert run("predict", photos, "--prompt", prompt, "--backbone", TINY_FOLDER).code == 0
    before = {path.name for path in tmp_path.iterdir()}
    assert run("adapt", photos, "--out", prompt, "--resume", *QUICK).code == 0
    assert {path.name for path in tmp_path.iterdir()} == before
    assert_refused(run("backbones", "add", TINY_FOLDER, "--json"), "no home folder", "QPE_BACKBONES")
    assert_refused(
        run("predict", photos, "--prompt", prompt, "--backbone", "vit", "--json"), "installed: small"
    )


def test_an_empty_home_is_none(homeless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    assert cache_folder() is user_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("XDG_DATA_HOME", "/y")
    assert cache_folder() == Path("/x/qprompt-edge")
    assert user_folder() == Path("/y/qprompt-edge/backbones")


@needs_another_user
@pytest.mark.parametrize("home", [None, "forbidden", "missing", "file"])
def test_commands_run_whatever_home_is(home: str | None, forbidden: Path, photos: Path) -> None:
    (forbidden.parent / "file").write_text("no folder")
    place = None if home is None else str(forbidden.parent / home)
    environment = {**NOWHERE, "HOME": place}
    words = ("adapt", photos, "--out", forbidden.parent / "made.qpt", *QUICK)
    for arguments in (("backbones",), words):
        done = qprompt_edge(*arguments, before=ANOTHER_USER, environment=environment)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"The run continues") == (home in ("forbidden", "file"))
    assert read_prompt_file(forbidden.parent / "made.qpt").classes


@needs_another_user
def test_a_named_folder_of_backbones_that_cannot_be_read_is_said(forbidden: Path) -> None:
    environment = {"QPE_BACKBONES": str(forbidden)}
    done = qprompt_edge("backbones", before=ANOTHER_USER, environment=environment)
    assert_one_error(done, "Permission denied", "QPE_BACKBONES names it", str(forbidden))
    done = qprompt_edge("backbones", "add", TINY_FOLDER, before=ANOTHER_USER, environment=environment)
    assert_one_error(done, str(forbidden), "Permission denied")
    done = qprompt_edge("bench", "--backbone", forbidden / "x", before=ANOTHER_USER, environment=environment)
    assert_one_error(done, str(forbidden))


# ---------------------------------------------------------------------- a cache that cannot be written


def full_from(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for files below a folder of that name, from now on."""
    plain = files.tempfile.mkstemp

    def mkstemp(*arguments: object, **named: object) -> tuple[int, str]:
        if path in Path(str(named["dir"])).parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(*arguments, **named)

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)


@pytest.mark.parametrize("name", ["cache", "tasks"])
def test_a_full_cache_costs_one_note(
    name: str, run: Callable, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_from(name, monkeypatch)
    monkeypatch.setenv("QPE_CACHE", str(tmp_path / "cache"))
    result = run("adapt", photos, "--out", tmp_path / "made.qpt", *QUICK)
    assert result.code == 0, result.err
    (note,) = (line for line in result.err.splitlines() if "No space left" in line)
    assert "The run continues" in note
    assert "QPE_CACHE" in note
    assert read_prompt_file(tmp_path / "made.qpt").classes


def test_where_the_training_is_not_kept_nothing_says_that_it_is(
    run: Callable, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qprompt_edge.cli.adapt.check_writable", lambda _path: None)
    (tmp_path / "file").write_text("no folder")
    words = ("adapt", photos, "--out", tmp_path / "file" / "made.qpt", *QUICK, "--json")
    assert "The training is kept" in run(*words).json["error"]
    monkeypatch.setenv("QPE_CACHE", str(tmp_path / "file"))
    assert "The training is kept" not in run(*words).json["error"]


def test_a_work_directory_that_fills_up_costs_a_note_too(
    run: Callable, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = WorkDir.open
    monkeypatch.setattr(
        WorkDir, "open", lambda *arguments: (work(*arguments), full_from("own", monkeypatch))[0]
    )
    words = ("adapt", photos, "--out", tmp_path / "made.qpt", "--work-dir", tmp_path / "own", *QUICK)
    result = run(*words)
    assert result.code == 0, result.err
    assert result.err.count("The run continues") == 1


def test_a_work_directory_that_cannot_be_written_is_refused(
    run: Callable, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    words = ("adapt", photos, "--out", tmp_path / "made.qpt", "--work-dir", tmp_path / "file" / "x", *QUICK)
    assert_refused(run(*words, "--json"), "file")


@needs_another_user
def test_a_cache_that_is_not_ours_costs_one_note(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o555)
    words = ("adapt", photos, "--out", tmp_path / "made.qpt", *QUICK)
    done = qprompt_edge(*words, before=ANOTHER_USER, environment={"QPE_CACHE": str(cache)})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"Permission denied") == done.stderr.count(b"The run continues") == 1
    assert read_prompt_file(tmp_path / "made.qpt").classes
