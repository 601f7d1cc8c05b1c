"""What tests share: an empty home, no network, the command line, a dummy bundle, and small models to export.

Nothing here imports torch, open_clip or onnx unless a test asks for a model to export: the device's own tests
run in an environment that has none of them.
"""

import json
import os
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import write_bundle
from command_line import Result
from page import OTHER_NAME, chromium
from scenes import write_photos

from qprompt_edge import adapt
from qprompt_edge.cli import main
from qprompt_runtime import backbone, none_of_these, policy
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.tokenizer import Tokenizer

_MOVED = {
    "HOME": "home",
    "XDG_CACHE_HOME": "home/.cache",
    "XDG_CONFIG_HOME": "home/.config",
    "XDG_DATA_HOME": "home/.local/share",
    "XDG_STATE_HOME": "home/.local/state",
    "QPE_BACKBONES": "backbones",
    "QPE_CACHE": "cache",
}

# ---------------------------------------------------------------------- every test


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


@pytest.fixture(autouse=True, scope="session")
def hermetic_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
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
    """The features of a thousand nouns, and the tokenizer, are made once a run, not in every test."""
    kept_features, nouns = none_of_these.kept_features, {}

    def known_nouns(folder: Path, identity: str, shape: tuple[int, int], compute: Callable[[], np.ndarray]):
        def remember() -> np.ndarray:
            return nouns[identity] if identity in nouns else nouns.setdefault(identity, compute())

        return kept_features(folder, identity, shape, remember)

    @cache
    def read(path: Path, _size: int, _changed: int) -> Tokenizer:
        return Tokenizer(path)

    def known_tokenizer(path: Path) -> Tokenizer:
        return read(path, path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else Tokenizer(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(none_of_these, "kept_features", known_nouns)
        patch.setattr(backbone, "Tokenizer", known_tokenizer)
        yield


TINY_FOLDER = Path(__file__).parent.parent / "exporters" / "backbones" / "tiny"


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


# -------------------------------------------------------------------- small models, for tests marked `export`

_VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3}
_NON_CAUSAL = {**_TEXT, "no_causal_mask": True}

SMALL_CONFIGS: dict[str, dict[str, Any]] = {
    "small-causal": {"embed_dim": 32, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "small-quickgelu": {"embed_dim": 32, "quick_gelu": True, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "small-noncausal": {
        "embed_dim": 32, "custom_text": True, "vision_cfg": _VISION, "text_cfg": _NON_CAUSAL,
    },
    "small-convolutional": {
        "embed_dim": 32, "text_cfg": _TEXT,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 2, 3], "width": 16, "patch_size": None},
    },
    "small-deep": {
        "embed_dim": 32, "text_cfg": {**_TEXT, "layers": 4},
        "vision_cfg": {**_VISION, "layers": 4, "pool_type": "avg"},
    },
    "small-embed-cls": {
        "embed_dim": 32, "custom_text": True, "vision_cfg": _VISION, "text_cfg": {**_TEXT, "embed_cls": True},
    },
}  # fmt: skip


@dataclass(frozen=True)
class SmallModel:
    """A model of random weights, in torch and as two files.

    Attributes:
        name: Its name in open_clip.
        model: The torch model, float32, in evaluation mode.
        checkpoint: Its state as a `.pt` file.
        safetensors: The same as a `.safetensors` file.
    """

    name: str
    model: Any
    checkpoint: Path
    safetensors: Path


@pytest.fixture(scope="session")
def small_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small configurations, made known to open_clip; their folder."""
    import open_clip
    import torch

    torch.set_num_threads(1)  # for models this small, more threads only wait for each other
    folder = tmp_path_factory.mktemp("configs")
    for name, config in SMALL_CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder)
    return folder


@pytest.fixture(scope="session")
def small_model(small_configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SmallModel]:
    """A small model by its name; made once."""
    import open_clip
    import safetensors.torch
    import torch

    @cache
    def make(name: str) -> SmallModel:
        torch.manual_seed(len(name))
        model = open_clip.create_model(name).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if parameter.ndim == 1:  # norms are 1 and biases 0 at first: an error there would not show
                    parameter += 0.2 * torch.randn_like(parameter)
                if "embedding" in key:
                    parameter *= 5  # so that words and places decide a feature
        folder = tmp_path_factory.mktemp("checkpoint")
        torch.save(model.state_dict(), folder / "weights.pt")
        state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        safetensors.torch.save_file(state, folder / "weights.safetensors")
        return SmallModel(name, model, folder / "weights.pt", folder / "weights.safetensors")

    return make


@pytest.fixture(scope="session")
def small_bundle(
    small_model: Callable[[str], SmallModel], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`small_bundle(name, precision="fp32", depth=0)`: a small model's bundle, exported once; read only."""
    from qprompt_exporters.bundle_writer import export_bundle

    @cache
    def export(name: str, precision: str = "fp32", depth: int = 0) -> Path:
        out = tmp_path_factory.mktemp("bundle") / f"{name}-{precision}"
        checkpoint = small_model(name).checkpoint
        export_bundle(name, out, checkpoint=checkpoint, precision=precision, deep_prompts=depth)
        return out

    return export


@pytest.fixture(scope="session")
def small_backbone(small_bundle: Callable[..., Path]) -> Callable[..., Backbone]:
    """`small_backbone(name, precision="fp32")`: that bundle, opened once."""

    @cache
    def load(name: str, precision: str = "fp32") -> Backbone:
        return Backbone.load(small_bundle(name, precision), threads=1)

    return load


@pytest.fixture
def quick_image_graph(small_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The image graph of `small-causal` without tracing it again, which takes seconds."""
    import onnx

    from qprompt_exporters import bundle_writer

    graph = onnx.load(small_bundle("small-causal") / "image.onnx")
    monkeypatch.setattr(bundle_writer, "image_graph", lambda _model, _size: graph)


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
    for left in page_server.data.glob("[!.]*"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
    return page_server
