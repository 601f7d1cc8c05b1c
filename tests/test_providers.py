"""Execution providers: which one is taken, and what is said when one or a graph is no good."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
from bundles import assert_one_line
from conftest import TINY_FOLDER

from qprompt_runtime import providers
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import BundleError, ProviderError


def test_an_absent_provider_lists_the_available_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["XnnpackExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(ProviderError, match="'cuda' is not available here; available: xnnpack, cpu"):
        providers.choose_provider("cuda")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["CPUExecutionProvider"], "CPUExecutionProvider"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "CUDAExecutionProvider"),
        (["TensorrtExecutionProvider", "CPUExecutionProvider"], "CPUExecutionProvider"),
    ],
)
def test_auto_takes_the_best(offered: list[str], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    assert providers.choose_provider("auto") == chosen


@pytest.mark.parametrize("name", ["cpu", "CPU"])
def test_a_provider_by_its_short_name(name: str) -> None:
    assert providers.choose_provider(name) == "CPUExecutionProvider"


def test_a_graph_that_is_no_graph(dummy: Path) -> None:
    with pytest.raises(BundleError, match=r"onnxruntime cannot open .*image.onnx") as error:
        providers.open_session(dummy / "image.onnx", "CPUExecutionProvider", 1, prepack=False)
    assert_one_line(error)


@pytest.mark.parametrize("graph", ["image.onnx", "manifest.json"])
def test_the_c_library_keeps_no_blocks_while_a_session_opens(
    graph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limits are back at their highest afterwards, also where the graph is none."""
    limits: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda which, value: limits.append((which, value)))
    monkeypatch.setattr(providers.ctypes, "CDLL", lambda _name: library)
    with contextlib.suppress(BundleError):
        providers.open_session(TINY_FOLDER / graph, "CPUExecutionProvider", 1, prepack=False)
    assert limits == [(-3, 2**17), (-3, 2**25), (-1, 2**26)]


def test_a_c_library_without_limits_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers.ctypes, "CDLL", lambda _name: SimpleNamespace())
    assert providers.open_session(TINY_FOLDER / "image.onnx", "CPUExecutionProvider", 1, prepack=False)


def test_threads_of_the_image_tower_leave_the_cores_to_decoding() -> None:
    """Those of the text tower may spin, since nothing else runs beside it, but not for long."""
    backbone = Backbone.load(TINY_FOLDER, threads=2)
    backbone.open_image_tower()
    backbone.open_for_classes()
    for session, spins in ((backbone._image_tower.session, "0"), (backbone._text_session, "1")):
        options = session.get_session_options()
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == spins
        assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "20"
