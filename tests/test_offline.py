"""The main job works without a network, and does not even try to reach one.

Twice: with a hook that ends the process at the first socket that Python opens or name that it looks up, which
works everywhere; and, where Linux allows it, with no network at all, which binds compiled libraries too.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"
SHOTS = 4
TRIED_NETWORK = 97

GUARDED = f"""
import os, runpy, sys

def hook(event, arguments):
    if event.startswith(("socket.connect", "socket.get", "socket.send", "socket.bind")):
        print("network:", event, arguments, file=sys.stderr, flush=True)
        os._exit({TRIED_NETWORK})  # not an exception: nothing can swallow it

sys.addaudithook(hook)
runpy.run_module("qprompt_edge", run_name="__main__", alter_sys=True)
"""


def run_commands(python: list[str], folder: Path) -> None:
    """Adapt, then use and read the prompt; a home folder of its own, so that no cache answers."""
    home = {name: str(folder / name) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "QPE_BACKBONES")}
    prompt, photos = str(folder / "prompt.qpt"), folder / "photos"
    for label in EXAMPLES.iterdir():
        (photos / label.name).mkdir(parents=True)
        for path in sorted(label.iterdir())[:SHOTS]:
            shutil.copy(path, photos / label.name)
    photo = str(next(photos.rglob("*.jpg")))
    for arguments in (
        ["adapt", "--images", str(photos), "--out", prompt, "--json", "--epochs", "2"],
        ["predict", photo, "--prompt", prompt, "--json"],
        ["inspect", prompt, "--json"],
        ["backbones", "--json"],
    ):
        done = subprocess.run(
            [*python, *arguments],
            cwd=folder,
            env={**os.environ, **home},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments[0]}: {done.stderr}"
        json.loads(done.stdout)


def test_the_guard_guards(tmp_path: Path) -> None:
    code = GUARDED.partition("runpy.run_module")[0] + "import socket; socket.getaddrinfo('localhost', 80)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == TRIED_NETWORK


def test_nothing_reaches_for_the_network(tmp_path: Path) -> None:
    run_commands([sys.executable, "-c", GUARDED], tmp_path)


def can_cut_the_network() -> bool:
    unshare = shutil.which("unshare")
    return (
        bool(unshare)
        and subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_cut_the_network(), reason="unshare cannot cut the network here")
def test_the_main_job_runs_with_the_network_cut(tmp_path: Path) -> None:
    run_commands(["unshare", "-rn", sys.executable, "-m", "qprompt_edge"], tmp_path)
