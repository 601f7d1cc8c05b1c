"""What `bench` measures, and what it makes of it."""

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import TINY_FOLDER
from PIL import Image

from qprompt_edge import bench as bench_module
from qprompt_edge.bench import KINDS, BenchResult, Machine, Timing, bench
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.methods import default_training
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import read_manifest
from qprompt_runtime.errors import BundleError, MemoryLimitError, ProviderError


@pytest.fixture(scope="module")
def decoded() -> list[bytes]:
    """The photos that the runs below decode, in turn."""
    return []


@pytest.fixture(scope="module")
def measured(decoded: list[bytes]) -> Iterator[tuple[BenchResult, list[tuple[str, int, int]]]]:
    """A short run, and what it told its reporter."""
    stages: list[tuple[str, int, int]] = []
    reporter = Reporter(stage=lambda *told: stages.append(told))
    load_pixels = bench_module.load_pixels

    def watched(photo: bytes, *others: object) -> object:
        decoded.append(photo)
        return load_pixels(photo, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_module, "load_pixels", watched)
        yield bench(classes=3, repeats=2, threads=1, reporter=reporter), stages


def test_every_kind_of_work_is_timed(measured):
    result, _ = measured
    assert tuple(result.milliseconds) == tuple(KINDS)
    for kind, timing in result.milliseconds.items():
        assert 0 < timing.fastest <= timing.median, kind
    assert result.milliseconds["decode_12mp"].fastest > result.milliseconds["decode_small"].fastest
    assert (result.classes, result.repeats) == (3, 2)


def test_it_says_what_it_was_measured_on(measured, shipped):
    result, _ = measured
    assert result.manifest == shipped.manifest
    assert result.provider == shipped.provider
    assert result.machine.processor
    assert result.machine.cores >= 1
    assert result.machine.threads == 1
    assert result.machine.onnxruntime.count(".") == 2
    assert result.peak_rss_mb > 50


def test_progress_counts_the_warm_up(measured):
    _, stages = measured
    assert stages == [(name, done, 4) for name in KINDS.values() for done in (1, 2, 3, 4)]


def test_the_task_of_the_estimate(measured):
    result, _ = measured
    assert result.photos == 48
    assert result.steps == default_training("qcoop").epochs  # all photos at once
    took = {kind: timing.median for kind, timing in result.milliseconds.items()}
    tuning = took["load"] + took["classes"] + took["residuals"]
    expected = (tuning + result.photos * (took["decode_12mp"] + took["encode"])) / 1000
    assert 0 < result.adapt_seconds() == pytest.approx(expected)


def test_the_estimate_in_round_numbers(tiny):
    medians = {
        "load": 500,
        "decode_12mp": 60,
        "decode_small": 7,
        "encode": 40,
        "classes": 8,
        "predict": 9,
        "residuals": 200,
        "step": 20,
    }
    times = {kind: Timing(float(median), 1.0) for kind, median in medians.items()}
    machine = Machine("", 2, 1, "")
    result = BenchResult(
        tiny.manifest, "", "", machine, 10, 1, times, photos_at_once=2, steps=250, peak_rss_mb=0
    )
    # 0.5 to load, 11.2 for 160 photos (half of the time to decode one, as two are decoded at once)
    assert result.adapt_seconds() == pytest.approx(11.7 + 0.208)  # the classes and their residuals
    assert result.adapt_seconds("qcoop") == pytest.approx(11.7 + 5)  # 250 steps


def test_photos_are_of_12_megapixels_and_of_the_models_size_and_always_the_same(measured, decoded, shipped):
    large, small = sorted(set(decoded), key=len, reverse=True)
    for photo, size in ((large, (4000, 3000)), (small, shipped.manifest.image_transform.size[::-1])):
        with Image.open(io.BytesIO(photo)) as image:
            assert (image.format, image.size) == ("JPEG", size)
    assert 2e6 < len(large) < 8e6
    before = len(decoded)
    bench(classes=2, repeats=1, threads=1)
    assert decoded[before:]
    assert set(decoded[before:]) == {large, small}


def test_the_steps_are_those_of_training(tiny, monkeypatch):
    """More runs than the schedule has steps start the schedule again.

    Each run is one run of the text tower with its gradient.
    """
    calls = []
    original = Backbone.loss_and_gradient

    def counting(self, context, tokens, image_features, targets, scale):
        calls.append((context.shape, image_features.shape, targets.shape))
        return original(self, context, tokens, image_features, targets, scale)

    monkeypatch.setattr(Backbone, "loss_and_gradient", counting)
    monkeypatch.setattr(
        bench_module, "default_training", lambda method: replace(default_training(method), epochs=3)
    )
    result = bench(TINY_FOLDER, classes=2, repeats=5, threads=1)
    assert result.steps == 3
    embed, width = tiny.manifest.embed_dim, tiny.manifest.text.width
    assert calls == [((1, 4, width), (32, embed), (32, 2))] * 7  # two of them to warm up


def test_residuals_are_tuned_as_adapt_tunes_them(monkeypatch):
    """Each run tunes all photos of the task, and then each part of the cross-validation."""
    tuned = []
    original = bench_module.tune

    def counting(method, backbone, photos, config, **others):
        tuned.append((method, photos.features.shape, config))
        return original(method, backbone, photos, config, **others)

    judged = []
    held_out = bench_module.held_out_scores

    def watched(*arguments):
        judged.append(held_out(*arguments))
        return judged[-1]

    monkeypatch.setattr(bench_module, "tune", counting)
    monkeypatch.setattr(bench_module, "held_out_scores", watched)
    bench(TINY_FOLDER, classes=2, repeats=1, threads=1)
    embed = read_manifest(TINY_FOLDER).embed_dim
    assert tuned == [("qtaskres", (32, 1, embed), default_training("qtaskres"))] * 3  # two of them to warm up
    assert [len(scores.labels) for scores in judged] == [32] * 3


def test_what_cannot_be_measured_is_refused(dummy):
    with pytest.raises(ValueError, match=r"classes \(1\) must be at least 2"):
        bench(classes=1)
    with pytest.raises(ValueError, match=r"repeats \(0\)"):
        bench(repeats=0)
    with pytest.raises(BundleError, match="onnxruntime cannot open"):
        bench(dummy)
    with pytest.raises(ProviderError, match="nope"):
        bench(provider="nope")
    with pytest.raises(MemoryLimitError, match=r"12 megapixels took .* --max-memory allows 10;"):
        bench(max_memory=10)


def test_a_limit_is_checked_after_every_kind_of_work(monkeypatch):
    """The peak is made up: it rises behind one kind of work.

    The peak of the test's own process says nothing here.
    """
    stages: list[str] = []
    high = [KINDS["classes"]] * 3  # two runs to warm up, and one that counts
    monkeypatch.setattr("qprompt_edge.memory.peak_rss_mb", lambda: 3000 if stages[-3:] == high else 1000)
    reporter = Reporter(stage=lambda name, *_: stages.append(name))
    with pytest.raises(
        MemoryLimitError, match="predicting a decoded photo took 3000 MB, --max-memory allows 2000"
    ):
        bench(TINY_FOLDER, classes=2, repeats=1, threads=1, max_memory=2000, reporter=reporter)
    assert set(stages) == {
        KINDS[kind] for kind in ("load", "decode_12mp", "decode_small", "encode", "classes")
    }
