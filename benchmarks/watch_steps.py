"""The child of `benchmarks.watching`: one part, measured here; prints one line of JSON.

python -m benchmarks.watch_steps PART BUNDLE COUNT
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.class_names import made_names
from qprompt_edge.cli.answer_lines import AnswerLines
from qprompt_edge.memory import rss_mb
from qprompt_edge.watching.answers import Answer, Sink
from qprompt_edge.watching.frames import Frame, Frames, Source, SourceLost
from qprompt_edge.watching.health_sink import HealthSink, metrics_file
from qprompt_edge.watching.latest import latest_source
from qprompt_edge.watching.loop import Rules, Watch
from qprompt_edge.watching.prompts import Prompts
from qprompt_edge.watching.steady import steady
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import Calibration, ClassName, PromptFile, PromptGroup, write_prompt_file

WIDTH, HEIGHT = 640, 480
CLASSES, PROMPTS = 10, 10
FIRST = 1000
"""Answers before memory is looked at."""
_PICTURES, _TURN_FRAMES, _LOOKS = 8, 40, 100
_SCORES = (0.5, 0.375, 0.25, 0.125, 0.0)


class Last(Sink):
    """Counts answers and keeps the last, beside the lines that `watch --json` prints."""

    def __init__(self) -> None:
        self.count = 0
        self.answered: Answer | None = None

    def answer(self, answer: Answer, frame: Frame) -> None:
        """Count one."""
        self.count += 1
        self.answered = answer


def made_watch(prompts: Prompts, *more: Sink) -> tuple[Watch, Last]:
    """A watch that prints as `watch --json` does, and what counts its answers."""
    last = Last()
    lines = AnswerLines(as_json=True, changes=False, many=True)
    return Watch(prompts, Rules(), [lines, last, *more], "memory", lambda _line: None), last


def made_prompt(
    backbone: Backbone, labels: Sequence[str], seed: int, accept: float | None = None
) -> PromptFile:
    """A prompt of the default method whose residuals are random; speed does not depend on what they are."""
    rng = np.random.default_rng(seed)
    shape = (len(labels), backbone.manifest.embed_dim)
    residuals = PromptGroup.quantized(
        "class-residuals",
        np.array([-0.05, 0.05], np.float16),
        rng.integers(0, 2, shape, np.uint8),
        1,
        np.ones(len(labels), np.float16),
    )
    return PromptFile(
        method="qtaskres",
        groups=(residuals, PromptGroup.plain("class-offsets", np.zeros(len(labels), np.float16))),
        classes=tuple(ClassName.from_label(label) for label in labels),
        template=("a photo of a", "."),
        backbone_name=backbone.manifest.name,
        fingerprint=backbone.fingerprint,
        calibration=Calibration(100.0, _SCORES, accept),
    )


def write_prompts(folder: Path, backbone: Backbone, count: int, accept: float | None = None) -> list[Path]:
    """Files of prompts with ten classes each."""
    names = made_names(backbone.folder / "tokenizer.json", (1, 1, 2), CLASSES * count)
    paths = [folder / f"prompt-{number}.qpt" for number in range(count)]
    for number, path in enumerate(paths):
        labels = names[number * CLASSES : (number + 1) * CLASSES]
        write_prompt_file(path, made_prompt(backbone, labels, number, accept))
    return paths


def pictures() -> list[np.ndarray]:
    """Frames as a camera gives them, uint8 [480,640,3]."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(_PICTURES)]


def frames(shown: Sequence[np.ndarray], count: int) -> Frames:
    """So many frames."""
    for number in range(count):
        yield Frame(shown[number % len(shown)], "memory")


def speed(backbone: Backbone, folder: Path, turns: int) -> dict[str, Any]:
    """Frames a second with one prompt and with ten, without and with "none of these".

    They take turns, so both meet the same machine.
    """
    found: dict[str, Any] = {}
    shown = pictures()
    for kind, accept in (("plain", None), ("with none of these", 0.95)):
        paths = write_prompts(folder, backbone, PROMPTS, accept)
        watches = {
            name: made_watch(Prompts(part, backbone))[0]
            for name, part in (("one", paths[:1]), ("ten", paths))
        }
        found[kind] = {}
        for clock, now in (("wall", time.perf_counter), ("processor", time.process_time)):
            times: dict[str, list[float]] = {name: [] for name in watches}
            for turn in range(1 + turns):
                for name, watch in watches.items():
                    began = now()
                    watch.run(frames(shown, _TURN_FRAMES), lambda: True)
                    if turn:
                        times[name].append((now() - began) / _TURN_FRAMES)
            share = median(a / b for a, b in zip(times["one"], times["ten"], strict=True))
            rates = {name: 1 / median(values) for name, values in times.items()}
            found[kind][clock] = {**rates, "share": share, "fastest": 1 / min(times["one"])}
    return found


def health(backbone: Backbone, folder: Path, turns: int) -> dict[str, Any]:
    """Frames a second without and with what `--metrics` does, whose file is written every second here."""
    shown, paths = pictures(), write_prompts(folder, backbone, 1)
    counted = Prompts(paths, backbone, scored=True)
    write = metrics_file(folder / "watch.prom", "1", lambda _line: None)
    sink = HealthSink("memory", lambda: counted.versions, [write], every=1.0)
    watches = {
        "without": made_watch(Prompts(paths, backbone))[0],
        "with": made_watch(counted, sink)[0],
    }
    times: dict[str, list[float]] = {name: [] for name in watches}
    for turn in range(1 + turns):
        for name, watch in watches.items():
            began = time.process_time()
            watch.run(frames(shown, _TURN_FRAMES), lambda: True)
            if turn:
                times[name].append((time.process_time() - began) / _TURN_FRAMES)
    sink.close()
    more = median(b - a for a, b in zip(times["without"], times["with"], strict=True))
    return {name: 1 / median(values) for name, values in times.items()} | {"milliseconds": 1000 * more}


class Growth:
    """Resident memory, open files and threads, from a first look on."""

    def __init__(self) -> None:
        self.first = self.look()
        self.most = self.first[0]

    @staticmethod
    def look() -> tuple[float, int, int]:
        """MB, files, threads."""
        return rss_mb(), len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208

    def again(self) -> None:
        """Look at the memory."""
        self.most = max(self.most, rss_mb())

    def report(self, count: int) -> dict[str, Any]:
        """What has become of them."""
        now = self.look()
        return {
            "count": count,
            "first_mb": self.first[0],
            "most_mb": max(self.most, now[0]),
            "last_mb": now[0],
            "first_files": self.first[1],
            "files": now[1],
            "first_threads": self.first[2],
            "threads": now[2],
        }


def answers(backbone: Backbone, folder: Path, count: int) -> dict[str, Any]:
    """Many answers in one process: ten prompts answer each frame."""
    shown = pictures()
    watch, last = made_watch(Prompts(write_prompts(folder, backbone, PROMPTS, 0.95), backbone))
    watch.run(frames(shown, FIRST // PROMPTS), lambda: True)
    growth = Growth()
    step = max(1, (count - FIRST) // PROMPTS // _LOOKS)
    while last.count < count:
        watch.run(frames(shown, step), lambda: True)
        growth.again()
        print(f"{last.count} answers, {rss_mb() - growth.first[0]:+.2f} MB", file=sys.stderr, flush=True)
    return growth.report(last.count)


def reloads(backbone: Backbone, folder: Path, count: int) -> dict[str, Any]:
    """New versions of a prompt file, one between two frames; every second one has other classes."""
    shown = pictures()
    (path,) = write_prompts(folder, backbone, 1, 0.95)
    watch, last = made_watch(Prompts([path], backbone, cache=folder))
    names = made_names(backbone.folder / "tokenizer.json", (1, 1, 2), 2 * CLASSES)
    missed, growth = 0, None
    for number in range(count):
        labels = [f"{name} {number}" for name in names[CLASSES * (number % 2) :][:CLASSES]]
        write_prompt_file(path, made_prompt(backbone, labels, number, 0.95))
        watch.run(frames(shown, 1), lambda: True)
        missed += last.answered is None or last.answered.label not in labels
        for kept in folder.glob("*.npy"):  # a disk has room for these; a benchmark leaves none
            if kept.stat().st_size < 10**6:
                kept.unlink()
        if number == count // 10:
            growth = Growth()
        elif growth is not None:
            growth.again()
    assert growth is not None
    return growth.report(count) | {"missed": missed}


def losses(backbone: Backbone, folder: Path, count: int) -> dict[str, Any]:
    """A camera with a thread of its own, and a real file that it holds open, is lost after each frame."""
    shown = pictures()
    watch, _ = made_watch(Prompts(write_prompts(folder, backbone, 1), backbone))

    def read() -> Iterator[Frame]:
        with Path("/dev/zero").open("rb") as device:
            device.read(1)
            yield Frame(shown[0], "camera")
            raise SourceLost("camera: unplugged")

    told: list[bool] = []
    source: Source = latest_source("camera", read)
    growth: list[Growth] = []

    def tick() -> bool:
        if not growth and len(told) > count // 5:
            growth.append(Growth())
        return len(told) < 2 * count

    watch.run(steady(source, lambda here, _reason: told.append(here), first=0.001, most=0.001), tick)
    return growth[0].report(told.count(False)) | {"missed": told.count(False) - told.count(True)}


MEASURES: dict[str, Callable[[Backbone, Path, int], dict[str, Any]]] = {
    "speed": speed,
    "health": health,
    "toy health": health,
    "answers": answers,
    "toy": answers,
    "reloads": reloads,
    "losses": losses,
}


def main() -> None:
    """Measure one part."""
    part, bundle, count = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    backbone = Backbone.load(Path(bundle), threads=1)
    with (
        tempfile.TemporaryDirectory() as name,
        Path(os.devnull).open("w", encoding="utf-8") as nobody,
        redirect_stdout(nobody),
    ):
        found = MEASURES[part](backbone, Path(name), int(count))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
