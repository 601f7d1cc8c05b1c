"""Which of two image towers runs: a table over the processor's instructions, and what a user says."""

from dataclasses import replace
from pathlib import Path

import pytest

from qprompt_edge.data.features import feature_identity
from qprompt_runtime import processor
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.errors import ProviderError
from qprompt_runtime.manifest import Manifest

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx {}\n\nprocessor\t: 1\nflags\t\t: none\n"
ARM = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd {}\n"
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def manifest(shipped: Backbone, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.delenv("QPE_PRECISION")
    return shipped.manifest


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`on(text)`: this machine's /proc/cpuinfo is that text, and it is of that kind."""

    def become(text: str, machine: str = "") -> None:
        machine = machine or ("aarch64" if "Features" in text else "x86_64")
        monkeypatch.setattr(processor.platform, "machine", lambda: machine)
        path = tmp_path / "cpuinfo"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(processor, "_CPUINFO", path)

    return become


@pytest.mark.parametrize(
    ("cpuinfo", "runs"),
    [
        (X86.format("avx2 avx512f avx512_vnni"), "int8"),
        (X86.format("avx2 avx_vnni"), "int8"),
        (X86.format("avx2"), "int8"),
        (X86.format(""), "fp16"),
        (ARM.format("asimddp"), "fp16"),
        (ARM.format("asimddp i8mm"), "fp16"),
        ("", "fp16"),
    ],
)
def test_the_table(manifest: Manifest, on, cpuinfo: str, runs: str) -> None:
    on(cpuinfo)
    assert processor.chosen_graph(manifest, "auto", CPU).precision == runs
    assert processor.chosen_graph(manifest, "auto", CUDA).precision == "fp16"


def test_an_emulated_processor_that_shows_the_real_ones_instructions(manifest: Manifest, on) -> None:
    on(X86.format("avx2"), "aarch64")
    assert processor.chosen_graph(manifest, "auto", CPU) == manifest.image_graph


def test_a_system_without_such_a_file(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "none")
    assert processor.cpu_flags() == frozenset()
    assert processor.chosen_graph(manifest, "auto", CPU) == manifest.image_graph


def test_what_a_user_says_goes_first(manifest: Manifest, on, monkeypatch: pytest.MonkeyPatch) -> None:
    on(X86.format("avx2"))
    for named, runs in (("float", "fp16"), ("int8", "int8"), ("auto", "int8"), ("", "int8")):
        monkeypatch.setenv("QPE_PRECISION", named)
        assert processor.chosen_graph(manifest, "auto", CPU).precision == runs
    monkeypatch.setenv("QPE_PRECISION", "float")
    assert processor.chosen_graph(manifest, "int8", CPU).precision == "int8"  # the program's own wish


def test_a_bundle_with_one_tower_has_no_choice(manifest: Manifest, on) -> None:
    on(X86.format("avx2"))
    one = replace(manifest, int8_image_graph=None)
    for named in ("auto", "float", "int8"):
        assert processor.chosen_graph(one, named, CPU) == manifest.image_graph


def test_a_precision_that_is_none(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPE_PRECISION", "fp8")
    with pytest.raises(
        ProviderError, match=r"the precision 'fp8' \(QPE_PRECISION\) is not one of auto, float, int8"
    ):
        Backbone.load(DEFAULT_BACKBONE)


def test_byte_products_and_facts(on) -> None:
    on(ARM.format("asimddp i8mm"))
    assert processor.byte_products() == ("asimddp", "i8mm")
    on(X86.format("avx_vnni"))
    assert processor.cpu_fact("model name", "Model") == "Some CPU"
    assert processor.byte_products() == ("avx_vnni",)


def test_features_of_both_towers_are_kept_apart() -> None:
    exact, fast = (Backbone.load(DEFAULT_BACKBONE, precision=name) for name in ("float", "int8"))
    assert feature_identity(exact, 0, 1) != feature_identity(fast, 0, 1)


def test_where_a_user_sees_it(run, on, monkeypatch: pytest.MonkeyPatch) -> None:
    on(X86.format("avx2"))
    monkeypatch.delenv("QPE_PRECISION")
    said = " ".join(run("inspect", DEFAULT_BACKBONE).out.split())
    assert "int8 images as well. This processor runs int8 images (QPE_PRECISION)" in said
    monkeypatch.setenv("QPE_PRECISION", "float")
    said = " ".join(run("inspect", DEFAULT_BACKBONE).out.split())
    assert "This processor runs fp16 images" in said
