"""`reproduce` on a Ray cluster gives what it gives here.

What is wrong with the cluster is reported in one line.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_experiments import experiment, first_setup, write_alike

from qprompt_edge.reproduction.executors import run_on_ray
from qprompt_runtime.errors import ProviderError

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("ray_cluster.py")
_LIMIT = 300.0
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What happened on a cluster of two nodes."""
    pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("ray")
    photos = write_alike(folder / "photos")
    with tempfile.TemporaryDirectory(prefix="qpe", dir="/tmp") as short:  # sockets have short paths
        ended = subprocess.run(
            [sys.executable, str(SCRIPT), str(photos), str(folder)],
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            env={**os.environ, **_ENVIRONMENT, "RAY_TMPDIR": short},
        )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return found


def test_a_cluster_gives_the_same_outcomes_bit_for_bit(served: dict[str, Any]) -> None:
    assert len(served["here"]) == 6
    assert served["ray"] == served["here"]


def test_every_node_of_the_cluster_works(served: dict[str, Any]) -> None:
    assert served["nodes"].keys() == served["ray"].keys()
    assert set(served["nodes"].values()) == set(served["workers"])
    assert len(set(served["workers"])) == 2


def test_the_command_reports_the_same_from_a_cluster(served: dict[str, Any]) -> None:
    there, here = served["command on ray"], served["command here"]
    assert (there["code"], here["code"]) == (0, 0), there["said"]
    assert len(here["results"]) == 3
    assert there["results"] == here["results"]
    assert "Traceback" not in there["said"]


def test_a_job_that_fails_on_a_cluster_is_the_error_that_it_is_here(served: dict[str, Any]) -> None:
    assert served["failed"].startswith("ImageError: ")
    assert served["failed"].endswith("00.png: no such file")


def test_a_worker_that_dies_is_said(served: dict[str, Any]) -> None:
    assert served["dead"].startswith("QPromptError: a worker of the cluster ended without an answer")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:{}", "refused"), ("nonsense", "expected auto, local or HOST:PORT"), ("", "expected auto")],
)
def test_a_cluster_that_does_not_answer_is_said_soon(
    tmp_path: Path, closed_port: int, address: str, reason: str
) -> None:
    pytest.importorskip("ray")
    photos, address = write_alike(tmp_path / "photos", count=3), address.format(closed_port)
    command = [sys.executable, "-m", "qprompt_edge", "reproduce", "--set", f"odd={photos}", "--shots", "2"]
    command += ["--methods", "zero-shot", "--out", str(tmp_path / "out"), "--ray", address]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: no Ray cluster answers at {address!r} (")
    assert reason in line
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out" / "features").exists()  # nothing was encoded in vain


def test_without_ray_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = experiment(write_alike(tmp_path / "photos"), ["zero-shot"], [1])
    setup = first_setup(running, tmp_path / "features")
    for name in ("ray", "ray.util"):
        monkeypatch.setitem(sys.modules, name, None)
    message = r"^--ray needs Ray, which is not installed; pip install 'qprompt-edge\[cluster\]'$"
    with pytest.raises(ProviderError, match=message):
        list(run_on_ray(setup, running.jobs, "auto"))
    with pytest.raises(ProviderError, match=message):
        running.run(tmp_path / "out", ray="auto")
    assert list(run_on_ray(setup, [], "auto")) == []  # nothing to run needs no cluster
    assert len(running.run(tmp_path / "out").outcomes()) == 1
