"""`bench`: time a bundle on this machine, and estimate the time of `adapt`.

It times what the other commands run. Residuals are tuned as `adapt` tunes them, and a step is one of
`trainer.train` with the default settings of QCoOp: both on image features that are drawn instead of encoded,
because time does not depend on them. Each kind of work runs a few times before it counts; then its median and
its fastest run are kept. The very first load after a start of the machine also waits for the disk.
"""

from __future__ import annotations

import io
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

from qprompt_edge.data.features import Examples, photos_at_once
from qprompt_edge.memory import check_limit, fit_activations, peak_rss_mb
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning import qcoop
from qprompt_edge.tuning.calibration import held_out_scores
from qprompt_edge.tuning.config import class_members, epoch_batches, resolve_learning_rate
from qprompt_edge.tuning.methods import default_training, tune
from qprompt_edge.tuning.trainer import start, train
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.class_head import softmax
from qprompt_runtime.cores import usable_cores
from qprompt_runtime.images import load_pixels
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.prompt_file import CONTEXT, RESIDUAL, ClassName

KINDS: Mapping[str, str] = {
    "load": "loading the backbone, both towers",
    "decode_12mp": "decoding a JPEG of 12 megapixels",
    "decode_small": "decoding a JPEG of the model's size",
    "encode": "encoding a photo",
    "classes": "encoding the classes",
    "predict": "predicting a decoded photo",
    "residuals": "tuning residuals, with cross-validation",
    "step": "a tuning step of qcoop",
}
"""What is timed, in this order, and its name for people."""

PHOTOS_PER_CLASS = 16
"""Photos of each class in the task that the estimate is about."""
LEAST_CLASSES = 2
_UNCOUNTED = 2  # runs
_LARGE = (3000, 4000)
_GRAIN = 8  # pixels from one random value to the next: at quality 90 a large JPEG then has about 4 MB


@dataclass(frozen=True)
class Timing:
    """Times of one kind of work, in milliseconds.

    Attributes:
        median: Of the runs that count.
        fastest: Of the same runs.
    """

    median: float
    fastest: float


@dataclass(frozen=True)
class Machine:
    """What a time depends on beside the backbone.

    Attributes:
        processor: Its architecture, such as `x86_64` or `aarch64`.
        cores: Cores that this process may use.
        threads: Threads within an operator, as asked for; 0 is one for each core.
        onnxruntime: Version of onnxruntime.
    """

    processor: str
    cores: int
    threads: int
    onnxruntime: str


@dataclass(frozen=True)
class BenchResult:
    """What `bench` gives back.

    Attributes:
        manifest: Facts of the backbone that was timed.
        image_precision: Of the image tower that ran; a bundle may have another.
        provider: Execution provider that ran it.
        machine: Where it ran.
        classes: Class names C that were described to the text tower.
        repeats: Runs that count, of each kind.
        milliseconds: Times by the keys of `KINDS`.
        photos_at_once: Photos that `adapt` decodes and encodes at the same time.
        steps: Tuning steps of the default schedule of QCoOp with `PHOTOS_PER_CLASS` photos a class.
        peak_rss_mb: Peak resident memory, in MB of 10^6 bytes.
    """

    manifest: Manifest
    image_precision: str
    provider: str
    machine: Machine
    classes: int
    repeats: int
    milliseconds: Mapping[str, Timing]
    photos_at_once: int
    steps: int
    peak_rss_mb: float

    @property
    def photos(self) -> int:
        """Photos in the task that the estimate is about."""
        return PHOTOS_PER_CLASS * self.classes

    def adapt_seconds(self, method: str = RESIDUAL) -> float:
        """An estimate of the seconds that `adapt` takes for that task by `qtaskres` or `qcoop`.

        For photos of 12 megapixels: loading, decoding (several at once) and encoding each photo once, and
        tuning; not the search for photos, nor the verdict.
        """
        median = {kind: timing.median for kind, timing in self.milliseconds.items()}
        photo = median["decode_12mp"] / self.photos_at_once + median["encode"]
        tuning = {RESIDUAL: median["classes"] + median["residuals"], CONTEXT: self.steps * median["step"]}
        return (median["load"] + self.photos * photo + tuning[method]) / 1000


def bench(
    backbone: str | Path = DEFAULT_BACKBONE,
    *,
    classes: int = 10,
    repeats: int = 20,
    provider: str = "auto",
    threads: int = 0,
    max_memory: float | None = None,
    reporter: Reporter | None = None,
) -> BenchResult:
    """Time the work of `adapt` and `predict` with a backbone on this machine.

    Args:
        backbone: Name or folder.
        classes: How many made-up class names, at least 2.
        repeats: Runs that count of each kind of work, at least 1.
        provider: `auto`, or an execution provider's short name.
        threads: Threads within an operator; 0 takes one for each core.
        max_memory: Most resident memory in MB of 10^6 bytes; None sets no limit.
        reporter: Told how far it is.

    Returns:
        Times, memory, and what they were measured on.

    Raises:
        QPromptError: The backbone or the provider cannot be used, or there is too little memory.
        ValueError: Too few classes or repeats.
    """
    if classes < LEAST_CLASSES or repeats < 1:
        raise ValueError(
            f"classes ({classes}) must be at least {LEAST_CLASSES}, repeats ({repeats}) at least 1"
        )
    stopwatch = _Stopwatch(repeats, max_memory, reporter or Reporter())
    frozen = Backbone.load(backbone, provider, threads)
    photo = _jpeg(*_LARGE)  # before a tower is opened, because making it takes memory
    check_limit(max_memory, "making a photo of 12 megapixels")
    stopwatch.time("load", lambda: _load_all(backbone, provider, threads))
    pixels = _time_photos(stopwatch, frozen, photo)
    fit_activations(frozen, max_memory, tuning=False)
    names = [f"thing number {index}" for index in range(classes)]
    _time_classes(stopwatch, frozen, names, pixels)
    frozen.close_image_tower()  # as `adapt` does before it tunes
    _time_residuals(stopwatch, frozen, names)
    fit_activations(frozen, max_memory, tuning=True)
    steps = _time_tuning(stopwatch, frozen, names)
    return BenchResult(
        manifest=frozen.manifest,
        image_precision=frozen.image_graph.precision,
        provider=frozen.provider,
        machine=Machine(platform.machine(), usable_cores(), threads, onnxruntime.__version__),
        classes=classes,
        repeats=repeats,
        milliseconds=stopwatch.milliseconds,
        photos_at_once=photos_at_once(frozen, max_memory),
        steps=steps,
        peak_rss_mb=peak_rss_mb(),
    )


class _Stopwatch:
    """Times kinds of work one after the other, and stops when they take more memory than they may.

    Args:
        repeats: Runs that count of each kind.
        max_memory: In MB of 10^6 bytes, or None.
        reporter: Told how far it is.
    """

    def __init__(self, repeats: int, max_memory: float | None, reporter: Reporter) -> None:
        self.repeats, self.max_memory, self.reporter = repeats, max_memory, reporter
        self.milliseconds: dict[str, Timing] = {}

    def time(self, kind: str, work: Callable[[], object]) -> None:
        """Time `work`; what it returns is let go outside of the time, and before the next run.

        Raises:
            MemoryLimitError: It took more than `max_memory`.
        """
        runs, times = _UNCOUNTED + self.repeats, []
        for run in range(runs):
            begin = time.perf_counter()
            result = work()
            times.append(1000 * (time.perf_counter() - begin))
            del result
            check_limit(self.max_memory, KINDS[kind])
            self.reporter.stage(KINDS[kind], run + 1, runs)
        del times[:_UNCOUNTED]
        self.milliseconds[kind] = Timing(statistics.median(times), min(times))


def _load_all(name: str | Path, provider: str, threads: int) -> object:
    """Read everything that a prediction needs."""
    backbone = Backbone.load(name, provider, threads)
    backbone.open_for_classes()
    backbone.close_text_tower()
    backbone.open_image_tower()
    return backbone, backbone.tokenizer


def _time_photos(stopwatch: _Stopwatch, backbone: Backbone, photo: bytes) -> Array:
    """Decode `photo` and one of the model's size, and encode that; its pixels, float32 [1,3,H,W]."""
    transform = backbone.manifest.image_transform
    small = _jpeg(*transform.size)
    pixels = load_pixels(small, transform)[None]
    stopwatch.time("decode_12mp", lambda: load_pixels(photo, transform))
    stopwatch.time("decode_small", lambda: load_pixels(small, transform))
    stopwatch.time("encode", lambda: backbone.encode_images(pixels))
    return pixels


def _time_classes(stopwatch: _Stopwatch, backbone: Backbone, names: Sequence[str], pixels: Array) -> None:
    """Describe the classes, and predict a photo of pixels [1,3,H,W] with them."""
    prompt = qcoop.initial_prompt(backbone, names)
    features = backbone.encode_classes(prompt.context, prompt.tokens)
    scale = np.float32(backbone.manifest.logit_scale)
    stopwatch.time("classes", lambda: backbone.encode_classes(prompt.context, prompt.tokens))
    stopwatch.time("predict", lambda: softmax(scale * (backbone.encode_images(pixels) @ features.T)))


def _time_residuals(stopwatch: _Stopwatch, backbone: Backbone, names: Sequence[str]) -> None:
    """Tune residuals on the task of the estimate, and judge them by cross-validation."""
    photos, config = _task(backbone, names), default_training(RESIDUAL)
    text, alone = _unit_rows(len(names), backbone.manifest.embed_dim), np.arange(len(photos.labels))

    def work() -> object:
        tuned = tune(RESIDUAL, backbone, photos, config, text=text)
        return tuned, held_out_scores(text, photos, alone, config)

    stopwatch.time("residuals", work)


def _time_tuning(stopwatch: _Stopwatch, backbone: Backbone, names: Sequence[str]) -> int:
    """Tune contexts on the task of the estimate for some steps; how many steps their whole schedule has."""
    photos = _task(backbone, names)
    tuning = qcoop.tuning(backbone, names, photos.features, photos.labels)
    config = resolve_learning_rate(default_training(CONTEXT), tuning.weights, backbone.manifest.logit_scale)
    state = start(tuning.weights, config, tuning.reparameterization)
    steps = itertools.chain.from_iterable(
        train(state, tuning.objective, photos.labels, config, tuning.reparameterization)
        for _ in itertools.count()
    )
    stopwatch.time("step", lambda: next(steps))
    return config.epochs * len(epoch_batches(class_members(photos.labels), config, 0))


def _task(backbone: Backbone, names: Sequence[str]) -> Examples:
    """The task of the estimate, with features that are drawn."""
    labels = np.repeat(np.arange(len(names)), PHOTOS_PER_CLASS)
    features = _unit_rows(len(labels), backbone.manifest.embed_dim)[:, None]
    return Examples(tuple(ClassName(name, name) for name in names), (Path(),) * len(labels), labels, features)


def _jpeg(height: int, width: int) -> bytes:
    """A JPEG of smooth noise, always the same."""
    shape, buffer = (max(1, height // _GRAIN), max(1, width // _GRAIN), 3), io.BytesIO()
    grid = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    Image.fromarray(grid).resize((width, height)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _unit_rows(count: int, width: int) -> Array:
    """float32 [count, width], random rows of length 1."""
    rows = np.random.default_rng(0).standard_normal((count, width), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
