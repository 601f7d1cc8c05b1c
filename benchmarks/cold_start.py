"""How long `predict` of one photo and a whole `adapt` take from the start of the process.

Both take the default backbone.

    python -m benchmarks.cold_start [--threads 2] [--repeats 5]

Medians after one run that is not counted, so files are in the system's cache, as on a machine that is in use.
Beside the whole stand its beginnings (Python alone, and Python with the command line imported), and the same
command again, which finds its features of the classes in the cache. `adapt` is that of `examples/photos` with
its default method, hold-out included, from an empty cache.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bundles import DEFAULT, bundle
from benchmarks.memory import one_photo, predict, write_prompt
from benchmarks.options import parse
from benchmarks.photo_folders import EXAMPLES, make
from benchmarks.processes import run, run_module
from benchmarks.tables import duration, median, megabytes, text_table

BEGINNINGS = {
    "python": "pass",
    "import": "import qprompt_edge.cli.app, qprompt_edge.cli.predict",
    "runtime": "import qprompt_runtime.classifier",
}
WORDS = {
    "python": "Python starts",
    "runtime": "... and imports the runtime (numpy, onnxruntime, pillow)",
    "import": "... and imports the command line",
    "predict": "`qprompt-edge predict` of one photo, whole",
    "again": "... again, with the same prompt",
}
MOST_ADAPTATIONS = 3


def measure(threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    """Medians by what was started, under the backbone's name."""
    backbone = bundle(bundles, DEFAULT, "as shipped")
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-start-") as name:
        folder = Path(name)
        prompt = write_prompt(
            backbone, make(folder / "photos", classes=2, shots=2), folder / "prompt.qpt", threads
        )
        seconds: dict[str, list[float]] = {what: [] for what in WORDS}
        peaks = []
        for _ in range(1 + repeats):
            for what, code in BEGINNINGS.items():
                seconds[what].append(run([sys.executable, "-c", code], threads=threads).seconds)
            for what, cache in (("predict", None), ("again", folder / "cache")):
                child = predict(backbone, prompt, one_photo(), threads, cache=cache)
                seconds[what].append(child.seconds)
                peaks.append(child.peak_mb)
    found = {"seconds": {what: median(values[1:]) for what, values in seconds.items()}, "peak_mb": max(peaks)}
    return {DEFAULT: {**found, "adapt": _adapt(backbone, threads, min(repeats, MOST_ADAPTATIONS))}}


def _adapt(backbone: Path, threads: int, repeats: int) -> dict[str, Any]:
    """A whole `adapt` of the example photos, as it is without options, from an empty cache."""
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-adapt-") as folder:
        runs = [
            run_module(
                "qprompt_edge", "adapt", EXAMPLES, "--backbone", backbone, "--threads", threads,
                "--out", Path(folder) / "prompt.qpt", "--json",
                threads=threads,
            )
            for _ in range(repeats)
        ]  # fmt: skip
    answer = runs[0].answer
    return {
        "method": answer["method"],
        "photos": answer["images"]["train"] + answer["images"]["holdout"],
        "bytes": answer["bytes"],
        "seconds": median(run.seconds for run in runs),
        "peak_mb": max(run.peak_mb for run in runs),
    }


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    ((backbone, found),) = result.items()
    rows = [[what, duration(found["seconds"][key])] for key, what in WORDS.items()]
    rows.append(["its peak memory", megabytes(found["peak_mb"])])
    if "adapt" in found:
        whole = found["adapt"]
        what = f"`qprompt-edge adapt` of {whole['photos']} photos (`{whole['method']}`, all defaults), whole"
        rows += [[what, duration(whole["seconds"])], ["its peak memory", megabytes(whole["peak_mb"])]]
    return [f"from the start of the process, {backbone}", "time"], rows


def main() -> None:
    """Run it from the command line."""
    options = parse(__doc__)
    result = measure(options.threads, options.bundles, options.repeats)
    print(text_table("Cold start", *table(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
