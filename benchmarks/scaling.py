"""How a step and the class features grow; ViT-B/32, fp32.

They grow with classes, photos in a batch, threads and the length of names.

    python -m benchmarks.scaling [--threads 2] [--bundles DIR] [--repeats 5]

Other numbers of classes than 100 use made-up names whose token counts repeat those of Caltech-101's. The last
part sets the multiply-adds that a step needs (see `benchmarks.roofline`) against a plain large product in the
same process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.bundles import bundle
from benchmarks.class_names import CALTECH_101
from benchmarks.options import parse
from benchmarks.processes import run_module
from benchmarks.roofline import against_sgemm
from benchmarks.tables import duration, median, percent, text_table, times

MODEL = "ViT-B-32"
STEP_CLASSES = (10, 100, 1000)
FEATURE_CLASSES = (10, 100, 1000, 10000)
BATCHES = (8, 32, 160, 1600)
TOKENS = (1, 2, 4, 8)
ROOFLINE_CLASSES = (10, 100)
LEAST_RUNS = 5
_BEHIND_NAME = 2
"""The full stop and the end token."""


class Sweep:
    """Runs our side's child on one bundle.

    Args:
        folder: The bundle.
        threads: Threads unless a run says otherwise.
        repeats: Runs that count, where a run is short; at least five.
    """

    def __init__(self, folder: Path, threads: int, repeats: int) -> None:
        self.folder, self.threads, self.repeats = folder, threads, max(LEAST_RUNS, repeats)
        caltech = ("--names", ",".join(CALTECH_101))
        self.lengths = [row - _BEHIND_NAME for row in self.run(*caltech, parts="classes", repeats=1)["rows"]]

    def run(
        self,
        *options: object,
        parts: str,
        repeats: int | None = None,
        threads: int | None = None,
        warm_up: int = 1,
    ) -> dict[str, Any]:
        """One child; its answer."""
        count = threads or self.threads
        child = run_module(
            "benchmarks.our_steps", "--backbone", self.folder, "--parts", parts, "--threads", count,
            "--repeats", repeats or self.repeats, "--warm-up", warm_up, *options,
            threads=count,
        )  # fmt: skip
        answer: dict[str, Any] = child.answer
        return answer

    def classes(self, count: int) -> tuple[object, ...]:
        """Options for so many made-up names, in lengths like Caltech-101's."""
        return ("--classes", count, "--tokens", ",".join(map(str, self.lengths)))


def measure(threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    """Seconds by what was varied."""
    sweep = Sweep(bundle(bundles, MODEL, "fp32"), threads, repeats)
    step, features = {}, {}
    for count in STEP_CLASSES:
        often = None if count < 1000 else min(repeats, 3)
        step[str(count)] = _one(sweep.run(*sweep.classes(count), parts="trainer", repeats=often), "trainer")
    for count in FEATURE_CLASSES:
        often, warm_up = (None, 1) if count < 1000 else (min(repeats, 3), 1) if count < 10000 else (1, 0)
        answer = sweep.run(*sweep.classes(count), parts="classes", repeats=often, warm_up=warm_up)
        features[str(count)] = _one(answer, "classes")
    return {
        "step_by_classes": step,
        "features_by_classes": features,
        "thousand_to_hundred": step["1000"] / step["100"],
        "step_by_batch": {
            str(batch): _one(sweep.run(*sweep.classes(10), "--batch", batch, parts="text"), "text")
            for batch in BATCHES
        },
        "step_by_threads": {
            str(count): _one(sweep.run(*sweep.classes(100), parts="trainer", threads=count), "trainer")
            for count in sorted({1, threads})
        },
        "step_by_name_tokens": {
            str(length): _one(sweep.run("--classes", 10, "--tokens", length, parts="trainer"), "trainer")
            for length in TOKENS
        },
        "roofline": [
            against_sgemm(
                _joined(
                    [sweep.run(*sweep.classes(count), parts="text,sgemm", warm_up=2) for _ in range(repeats)]
                )
            )
            for count in ROOFLINE_CLASSES
        ],
    }


def _joined(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """One answer with the runs of all: a process may be slow as a whole, by where its weights come to lie."""
    parts = answers[0]["seconds"]
    return {
        **answers[0],
        "seconds": {part: [time for answer in answers for time in answer["seconds"][part]] for part in parts},
    }


def _one(answer: dict[str, Any], part: str) -> float:
    return median(answer["seconds"][part])


SWEEPS = {
    "step_by_classes": "a step, by classes",
    "features_by_classes": "features of all classes, by classes",
    "step_by_batch": "a text step of 10 classes, by photos in the batch",
    "step_by_threads": "a step of 100 classes, by threads",
    "step_by_name_tokens": "a step of 10 classes, by tokens of a name",
}


def tables(result: dict[str, Any]) -> list[tuple[list[str], list[list[str]]]]:
    """A table for each sweep: header and one row."""
    made = []
    for key, what in SWEEPS.items():
        found = dict(sorted(result[key].items(), key=lambda item: int(item[0])))
        made.append(([what, *found], [["", *(duration(value) for value in found.values())]]))
    return made


def roofline_table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the last part."""
    header = ["text step against sgemm", "multiply-adds", "time", "rate", "sgemm", "by", "share"]
    rows = [
        [
            f"{line['classes']} classes",
            f"{line['multiply_adds']['total'] / 1e9:.2f} G",
            duration(line["seconds"]),
            f"{line['rate'] / 1e9:.1f} G/s",
            f"{line['sgemm'][line['sgemm_by']] / 1e9:.1f} G/s",
            line["sgemm_by"],
            percent(line["share"]),
        ]
        for line in result["roofline"]
    ]
    return header, rows


def main() -> None:
    """Run it from the command line."""
    options = parse(__doc__)
    result = measure(options.threads, options.bundles, options.repeats)
    for header, rows in tables(result):
        print(text_table(header[0], ["", *header[1:]], rows))
    print(f"a step of 1000 classes takes {times(result['thousand_to_hundred'])} one of 100\n")
    print(text_table("Roofline", *roofline_table(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
