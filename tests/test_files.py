"""Writing files on file systems without permissions or syncing.

Nothing is written where the disk is full.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from other_machines import STRACE, needs_strace, qprompt_edge
from prompts import TINY

from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import check_writable, write_atomic
from qprompt_runtime.prompt_file import write_prompt_file


def refuse(code: int):
    def call(*_arguments: object, **_named: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_without_permissions_a_file_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, refuse(code))
    write_atomic(tmp_path / "new" / "file", b"whole")
    assert (tmp_path / "new" / "file").read_bytes() == b"whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_where_nothing_can_be_synced_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(code))
    write_atomic(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_fails_is_an_error_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refuse(code))
    with pytest.raises(OutputError, match=os.strerror(code)):
        write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("write", [lambda path: write_atomic(path, b"new"), check_writable])
@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (lambda folder: Path("/dev/null"), "it is not a regular file"),
        (lambda folder: Path("/dev/stdout"), "it is not a regular file"),
        (lambda folder: pipe(folder / "pipe"), "it is not a regular file"),
        (lambda folder: folder, "Is a directory"),
    ],
)
def test_what_is_no_file_is_not_replaced(
    tmp_path: Path,
    write: Callable[[Path], None],
    standing: Callable[[Path], Path],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "replace", lambda *_: pytest.fail("replaced"))  # root's own /dev/null
    path = standing(tmp_path)
    with pytest.raises(OutputError, match=f"cannot write {path}: {reason}; choose another place"):
        write(path)


def test_a_link_to_a_file_or_to_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    for target in ("old", "nothing"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        write_atomic(tmp_path / "link", b"new")
        assert (tmp_path / "link").read_bytes() == b"new"
    assert (tmp_path / "old").read_bytes() == b"old"


@needs_strace
def test_a_prompt_is_converted_on_such_a_drive(tmp_path: Path) -> None:
    write_prompt_file(tmp_path / "a.qpt", TINY)
    refused = (*STRACE, "-e", "inject=chmod,fchmod,fchmodat:error=EPERM", "-e", "inject=fsync:error=EINVAL")
    done = qprompt_edge("convert", "a.qpt", "--out", "b.safetensors", before=refused, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.safetensors").stat().st_size > 100
