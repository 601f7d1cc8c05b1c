"""The Mender update module: its answers by the protocol, and real artifacts installed by the real client."""

import functools
import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fetching import device as device  # a fixture
from fetching import prompt_of
from mender import MODULE, Mender, needs_mender, write_artifact, write_program, write_settings


class Tree:
    """A deployment as the module sees it: the folder from Mender, and a program that notes its calls."""

    def __init__(self, folder: Path) -> None:
        self.directory, self.to, self.log = folder / "tree", folder / "belt", folder / "log"
        for name in ("files", "tmp"):
            (self.directory / name).mkdir(parents=True)
        self.to.mkdir()
        self.log.touch()
        program = folder / "qprompt-edge"
        program.write_text(f'#!/bin/sh\necho "$*" >> {self.log}\n')
        program.chmod(0o755)
        self.settings = write_settings(folder / "qprompt.conf", program, self.to, "--canary /photos")

    def call(self, state: str, *, code: int = 0) -> str:
        done = subprocess.run(
            [str(MODULE), state, str(self.directory)],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "QPROMPT_MENDER_CONF": str(self.settings)},
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    def called(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_it_answers_as_the_protocol_says_and_installs_in_its_state_only(tree: Tree) -> None:
    new = tree.directory / "files" / "new.qpt"
    new.write_bytes(b"new")
    assert tree.call("NeedsArtifactReboot") == "No\n"
    assert tree.call("SupportsRollback") == "Yes\n"
    for state in (
        "Download",
        "ArtifactFailure",
        "Cleanup",
        "ArtifactReboot",
        "ProvidePayloadFileSizes",
        "Later",
    ):
        assert tree.call(state) == ""
    assert tree.called() == []
    tree.call("ArtifactInstall")
    assert tree.called() == [f"install {new} --to {tree.to} --task belt --canary /photos"]
    tree.call("ArtifactCommit")
    assert tree.called()[1:] == [f"status {tree.to} --task belt"]


@pytest.mark.parametrize(
    ("before", "now", "undone"),
    [
        (b"old", b"new", True),  # installed
        (b"old", b"old", False),  # refused
        (None, None, False),  # refused, and nothing ran
        (b"new", b"new", False),  # it ran already
    ],
)
def test_a_rollback_undoes_what_the_artifact_did(
    before: bytes | None, now: bytes | None, undone: bool, tree: Tree
) -> None:
    (tree.directory / "files" / "new.qpt").write_bytes(b"new")
    running = tree.to / "prompt.qpt"
    if before is not None:
        running.write_bytes(before)
    tree.call("ArtifactInstall")
    if now is not None:
        running.write_bytes(now)
    tree.log.write_text("")
    tree.call("ArtifactRollback")
    assert tree.called() == ([f"rollback {tree.to} --task belt"] if undone else [])


def test_a_rollback_of_the_first_prompt_leaves_none_and_what_others_installed_stays(tree: Tree) -> None:
    (tree.directory / "files" / "new.qpt").write_bytes(b"new")
    tree.call("ArtifactInstall")
    (tree.to / "prompt.qpt").write_bytes(b"new")
    tree.call("ArtifactRollback")
    assert not (tree.to / "prompt.qpt").exists()
    (tree.to / "prompt.qpt").write_bytes(b"old")
    tree.call("ArtifactInstall")
    (tree.to / "prompt.qpt").write_bytes(b"another")
    assert "left as it is" in tree.call("ArtifactRollback", code=1)
    assert (tree.to / "prompt.qpt").read_bytes() == b"another"


def test_what_is_no_prompt_artifact_or_has_no_settings_fails(tree: Tree) -> None:
    assert "one file" in tree.call("ArtifactInstall", code=1)
    for name in ("a.qpt", "b.qpt"):
        (tree.directory / "files" / name).write_bytes(b"new")
    assert "one file" in tree.call("ArtifactInstall", code=1)
    tree.settings.write_text("policy=''\n")
    assert "to=FOLDER" in tree.call("ArtifactInstall", code=1)
    tree.settings.unlink()
    assert "cannot read" in tree.call("ArtifactInstall", code=1)
    assert tree.called() == []


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and its address on a web server."""
    folder = tmp_path / "outbox"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@needs_mender
def test_the_client_installs_commits_refuses_and_rolls_back(
    device: Path, outbox: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = outbox
    settings = write_settings(tmp_path / "qprompt.conf", write_program(tmp_path / "qprompt-edge"), device)
    mender = Mender(tmp_path / "mender", settings)

    def sent(sequence: int, **changes: object) -> str:
        (tmp_path / "belt.qpt").write_bytes(prompt_of(sequence, **changes))
        return f"{address}/{write_artifact(tmp_path / 'belt.qpt', folder / f'belt-{sequence}.mender').name}"

    running = device / "prompt.qpt"
    done = mender("install", sent(7))
    assert done.returncode == 0, done.stderr
    assert running.read_bytes() == prompt_of(7)
    assert mender("commit").returncode == 0
    foreign = mender("install", sent(8, number=3))
    assert foreign.returncode != 0
    assert "not trusted" in foreign.stderr
    assert running.read_bytes() == prompt_of(7)
    assert mender("install", sent(9)).returncode == 0
    assert running.read_bytes() == prompt_of(9)
    done = mender("rollback")
    assert done.returncode == 0, done.stderr
    assert running.read_bytes() == prompt_of(7)
