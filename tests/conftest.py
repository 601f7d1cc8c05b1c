"""What tests share: an empty home, no network, the command line, a dummy bundle, and the page of `serve`.

Nothing here imports torch, open_clip or onnx: the device's own tests run in an environment that has none of
them. Models to export are in `small_models`.
"""

import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import write_bundle
from command_line import Result
from hypothesis import HealthCheck, settings
from page import OTHER_NAME, chromium
from scenes import write_photos

import qprompt_runtime
from qprompt_edge import adapt
from qprompt_edge.cli import main
from qprompt_runtime import backbone, none_of_these, policy
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.tokenizer import Tokenizer

pytest_plugins = ["small_models"]

_MOVED = {
    "HOME": "home",
    "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config",
    "XDG_DATA_HOME": "home/.local/share",
    "XDG_STATE_HOME": "home/.local/state",
    "QPE_BACKBONES": "backbones",
    "QPE_CACHE": "cache",
}

TINY_FOLDER = Path(__file__).parent.parent / "exporters" / "backbones" / "tiny"
_SMALL_FOLDER = Path(qprompt_runtime.__file__).parent / "backbones" / "small"

# ---------------------------------------------------------------------- every test

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # an example may take as long as it does


def pytest_configure(config: pytest.Config) -> None:
    """A worker of pytest-xdist keeps to one processor, and so does what it starts.

    Several threads would wait for each other in loops, while the other workers need the processor: tests of
    graphs would take twice the time.
    """
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[int(worker.removeprefix("gw")) % len(processors)]})


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Ctrl-C works as in a terminal, for child processes too, even where the shell ignores it (nohup)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


_LOOPBACK = ("127.0.0.1", "::1")


def _refuse_network(*arguments: Any, **_named: Any) -> None:
    raise OSError(f"a test reached for the network: {arguments}")


def _move_home(patch: pytest.MonkeyPatch, root: Path) -> None:
    (root / "home").mkdir(exist_ok=True)
    for name, place in _MOVED.items():
        patch.setenv(name, str(root / place))


@pytest.fixture(scope="session")
def of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder that the workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(autouse=True, scope="session")
def hermetic_session(tmp_path_factory: pytest.TempPathFactory, of_all_workers: Path) -> Iterator[None]:
    """No network but this machine's own; also moves the home, for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        connect, look_up = socket.socket.connect, socket.getaddrinfo

        def connect_locally(self: socket.socket, address: Any) -> None:
            if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOOPBACK:
                _refuse_network(address)
            connect(self, address)

        def look_up_locally(host: Any, *arguments: Any, **named: Any) -> Any:
            if host not in _LOOPBACK:
                _refuse_network(host)
            return look_up(host, *arguments, **named)

        patch.setattr(socket.socket, "connect", connect_locally)
        patch.setattr(socket, "getaddrinfo", look_up_locally)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("QPE_PRECISION", "float")  # answers do not depend on the processor that tests them
        patch.setenv("MPLCONFIGDIR", str(of_all_workers / "matplotlib"))  # it lists all fonts once
        _move_home(patch, tmp_path_factory.mktemp("session"))
        yield


@pytest.fixture(autouse=True, scope="module")
def hermetic_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home for a server that answers all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        _move_home(patch, tmp_path_factory.mktemp("module"))
        yield


@pytest.fixture(autouse=True)
def hermetic(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A home, a cache, a backbone folder and a policy for each test; tests with a server share its home."""
    root = tmp_path_factory.mktemp("hermetic")
    if "server" not in request.fixturenames:
        _move_home(monkeypatch, root)
    monkeypatch.setattr(policy, "SYSTEM_POLICY", root / "policy.json")  # not this machine's


@pytest.fixture(autouse=True, scope="session")
def once() -> Iterator[None]:
    """What takes long and never changes is made once a run, not in every test.

    These are the features of a thousand nouns, the tokenizer, and the sessions of shipped backbones.
    Those for deep prompts keep too much memory.
    """
    kept_features, nouns = none_of_these.kept_features, {}
    open_session, sessions = backbone.open_session, {}

    def known_nouns(folder: Path, identity: str, shape: tuple[int, int], compute: Callable[[], np.ndarray]):
        def remember() -> np.ndarray:
            return nouns[identity] if identity in nouns else nouns.setdefault(identity, compute())

        return kept_features(folder, identity, shape, remember)

    @cache
    def read(path: Path, _size: int, _changed: int) -> Tokenizer:
        return Tokenizer(path)

    def known_tokenizer(path: Path) -> Tokenizer:
        return read(path, path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else Tokenizer(path)

    def known_session(path: Path, *given: Any, **named: Any) -> Any:
        if path.parent not in (TINY_FOLDER, _SMALL_FOLDER):
            return open_session(path, *given, **named)
        key = path, *given, *sorted(named.items())
        return (
            sessions[key]
            if key in sessions
            else sessions.setdefault(key, open_session(path, *given, **named))
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(none_of_these, "kept_features", known_nouns)
        patch.setattr(backbone, "open_session", known_session)
        patch.setattr(backbone, "Tokenizer", known_tokenizer)
        yield


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """The quickest backbone, for tests that would say the same of any other."""
    return Backbone.load(TINY_FOLDER)


@pytest.fixture(scope="session")
def shipped() -> Backbone:
    """The backbone that comes with the package, the default of every command."""
    return Backbone.load(DEFAULT_BACKBONE)


@pytest.fixture
def dummy(tmp_path: Path) -> Path:
    """A bundle as far as its manifest goes; its graphs are no graphs."""
    return write_bundle(tmp_path / "somewhere" / "dummy")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of small photos, six for each of three classes."""
    return write_photos(tmp_path / "photos")


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A prompt file's bytes for the classes of `photos`: QCoOp on the default backbone, tuned once."""
    folder = write_photos(tmp_path_factory.mktemp("tuned") / "photos")
    return adapt(folder, method="qcoop", epochs=1).prompt.to_bytes()


@pytest.fixture
def prompt(tuned: bytes, tmp_path: Path) -> Path:
    """That prompt's file."""
    path = tmp_path / "made.qpt"
    path.write_bytes(tuned)
    return path


@pytest.fixture
def stem_runs(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often the pixels of each photo went through a deep backbone's stem."""
    counts: Counter[bytes] = Counter()
    plain = DeepBackbone.encode_stem

    def counting(self: DeepBackbone, pixels: np.ndarray) -> np.ndarray:
        counts.update(photo.tobytes() for photo in pixels)
        return plain(self, pixels)

    monkeypatch.setattr(DeepBackbone, "encode_stem", counting)
    return counts


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`run("adapt", "--images", folder, ...)`: the command line, and what it leaves behind."""

    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(stop.value.code, captured.out, captured.err)

    return call


# ---------------------------------------------------------------------- the page of serve


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; tests that take it are skipped where there is none."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page_server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One server for all tests of a module."""
    from serving import served  # which imports this module

    with served(tmp_path_factory.mktemp("served") / "tasks", "--allow-host", OTHER_NAME) as found:
        yield found


@pytest.fixture
def server(page_server: Any) -> Any:
    """A server without tasks, also where a test runs again."""
    page_server.clear()
    return page_server
