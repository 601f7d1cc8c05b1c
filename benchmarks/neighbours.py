"""What people use instead, on the same photos: 8 classes of 24 to learn from, the other 48 to test on.

    python -m benchmarks.neighbours [--threads 2] [--repeats 5] [--tensorflow PYTHON] [--json FILE]

All but MobileNetV2 use the default backbone's image tower, the same photos and the same hold-out, which is
the one that `adapt` chooses. Each is a process of its own, timed from its start, an empty cache included:

    adapt        `qprompt-edge adapt`, as it is without options
    logistic     scikit-learn's logistic regression on features from onnxruntime
    tip          Tip-Adapter without training on these features
    trimmed      CoOp in PyTorch, text cut and features cached, 50 epochs
    authors      CoOp in PyTorch as its authors' code works; some steps are timed and the rest computed
    mobilenet    MobileNetV2 fine-tuned as Frigate does it (`benchmarks.mobilenet`), with random weights: its
                 accuracy is not measured. `--tensorflow` names the Python of an environment with
                 `tensorflow-cpu` and Pillow; without it this row is left out

They take turns; figures are means of two rounds; the three slow ones run once. Installed size
is that of the packages that each needs (MobileNetV2: all packages of its environment, pip not counted). Bytes
are what each device must get for a task, beside the program and the backbone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import installed
from benchmarks.bundles import DEFAULT, bundle
from benchmarks.options import parser
from benchmarks.photo_folders import EXAMPLES
from benchmarks.processes import Child, run, run_module
from benchmarks.tables import duration, median, megabytes, ratio, text_table, times

OURS = "adapt"
WORDS = {
    OURS: "`qprompt-edge adapt`",
    "logistic": "scikit-learn, logistic regression on features",
    "tip": "Tip-Adapter on features",
    "trimmed": "PyTorch CoOp, trimmed, cached",
    "authors": "PyTorch CoOp, as its authors' code works",
    "mobilenet": "MobileNetV2, as Frigate fine-tunes it",
}
ONCE = ("trimmed", "authors", "mobilenet")
MOST_ROUNDS = 2
_FEATURES = ("scikit-learn", "onnxruntime", "pillow")


def measure(
    threads: int, bundles: Path, repeats: int, tensorflow: str | None = None, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Rows by neighbour, and how many photos there were."""
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-neighbours-") as name:
        folder = Path(name)
        run_module("benchmarks.neighbours", "--split", folder)
        work = _neighbours(folder, bundle(bundles, DEFAULT, "as shipped"), threads, tensorflow)
        found: dict[str, list[Child]] = {}
        for turn in range(min(repeats, MOST_ROUNDS)):
            for what, start in work.items():
                if what not in without and (turn == 0 or what not in ONCE):
                    found.setdefault(what, []).append(start())
    sizes = _installed(found)
    rows = {what: _row(what, runs, sizes[what]) for what, runs in found.items()}
    ours = rows[OURS]["seconds"]
    for row in rows.values():
        row["ratio"] = ratio(row["seconds"], ours)
    return {"rows": rows, "backbone": DEFAULT}


def _neighbours(
    folder: Path, backbone: Path, threads: int, tensorflow: str | None
) -> dict[str, Callable[[], Child]]:
    """What starts each of them, once."""
    sets = ("--train", folder / "train", "--test", folder / "test", "--threads", threads)

    def ours() -> Child:
        out = folder / "prompt.qpt"
        out.unlink(missing_ok=True)
        return run_module(
            "qprompt_edge", "adapt", folder / "train", "--test-images", folder / "test",
            "--backbone", backbone, "--threads", threads, "--out", out, "--json",
            threads=threads,
        )  # fmt: skip

    def features(method: str) -> Child:
        place = ("--method", method, "--backbone", backbone)
        return run_module("benchmarks.feature_classifiers", *place, *sets, threads=threads)

    def torch(variant: str) -> Child:
        what = ("--model", DEFAULT, "--variant", variant)
        return run_module("benchmarks.torch_photos", *what, *sets, threads=threads)

    found: dict[str, Callable[[], Child]] = {
        OURS: ours,
        "logistic": lambda: features("logistic"),
        "tip": lambda: features("tip-adapter"),
        "trimmed": lambda: torch("trimmed"),
        "authors": lambda: torch("authors"),
    }
    if tensorflow:
        script = [tensorflow, "benchmarks/mobilenet.py"]  # a file: its Python has none of our packages
        options = ["--photos", str(EXAMPLES), "--threads", str(threads)]
        found["mobilenet"] = lambda: run([*script, *options], threads=threads)
    return found


def _row(what: str, runs: list[Child], installed_mb: float) -> dict[str, Any]:
    """Medians over the runs of one neighbour."""
    answer = runs[0].answer
    left = median(run.answer.get("seconds_left", 0.0) for run in runs)
    top1 = answer["holdout"]["adapted"]["top1"] if what == OURS else answer.get("top1")
    return {
        "seconds": median(run.seconds for run in runs) + left,
        "computed": left,
        "processor": median(run.processor for run in runs),
        "peak_mb": max(run.peak_mb for run in runs),
        "installed_mb": installed_mb,
        "bytes": answer["bytes"],
        "top1": top1,
        "photos": answer["images"]["train"] if what == OURS else answer["photos"],
        "runs": len(runs),
    }


def _installed(found: dict[str, list[Child]]) -> dict[str, float]:
    """MB of the packages that each needs; without separate libraries for GPUs."""
    packages = {
        OURS: installed.OURS,
        "logistic": _FEATURES,
        "tip": installed.OURS,
        "trimmed": installed.PYTORCH,
        "authors": installed.PYTORCH,
    }
    here = {what: installed.total_mb(names) for what, names in packages.items()}
    return here | {
        what: runs[0].answer["installed_mb"] for what, runs in found.items() if what == "mobilenet"
    }


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = ["8 classes of 24 photos", "time", "/ ours", "peak", "installed", "to ship", "accuracy"]
    rows = []
    for what in WORDS:
        if what not in result["rows"]:
            continue
        row = result["rows"][what]
        rows.append(
            [
                WORDS[what],
                duration(row["seconds"]) + (" (computed)" if row["computed"] else ""),
                "" if what == OURS else times(row["ratio"]),
                megabytes(row["peak_mb"]),
                megabytes(row["installed_mb"]),
                f"{row['bytes']:,} bytes",
                "not measured" if row["top1"] is None else f"{100 * row['top1']:.1f}%",
            ]
        )
    return header, rows


def notes(result: dict[str, Any]) -> list[str]:
    """Sentences that belong below the table."""
    found = [
        "The photos of `examples/photos`, the hold-out that `adapt` chooses, and the image tower of "
        f"`{result['backbone']}`; MobileNetV2 has its own. Time is from the start of each process, with an",
        "empty cache. *To ship* is what each device gets for a task, beside program and backbone. Logistic",
        "regression chooses its penalty by cross-validation; CoOp has its authors' learning rate. The time of",
        "the last CoOp is computed from some of its 300 steps, which decode, crop and encode photos anew.",
        "Frigate trains MobileNetV2 (0.35 of the channels, 224 pixels) with a frozen base, 128 units, dropout",
        "and a softmax: Adam, batches of 16, 50 epochs, photos read anew in each, then a conversion to int8",
        "(`benchmarks/mobilenet.py`). Its base is random here, so its accuracy is not measured.",
    ]
    return found if "mobilenet" in result["rows"] else [*found, "It is missing: there was no TensorFlow."]


def split(out: Path) -> None:
    """Copy the example photos to `train` and `test`, as `adapt` divides them."""
    from qprompt_edge import adapt

    trained = set(adapt(EXAMPLES, epochs=1).trained)
    for path in sorted(EXAMPLES.glob("*/*")):
        target = out / ("train" if path in trained else "test") / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.name)


def main() -> None:
    """Run it from the command line."""
    made = parser(__doc__)
    made.add_argument("--tensorflow", help="Python of an environment with tensorflow-cpu and Pillow")
    made.add_argument("--without", nargs="*", choices=list(WORDS)[1:], default=[], help="leave these out")
    made.add_argument("--json", type=Path, help="also write the JSON line to this file")
    made.add_argument("--split", type=Path, help="only write the photos to this folder")
    options = made.parse_args()
    if options.split:
        split(options.split)
        return
    common = (options.threads, options.bundles, options.repeats)
    result = measure(*common, options.tensorflow, tuple(options.without))
    print(text_table("What people use instead", *table(result)))
    if not options.tensorflow:
        print("MobileNetV2 was left out: --tensorflow names no Python that has TensorFlow\n")
    line = json.dumps(result)
    if options.json:
        options.json.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
