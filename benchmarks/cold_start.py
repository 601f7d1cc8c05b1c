"""How long `predict` of one photo takes from the start of the process, with the embedded backbone.

    python -m benchmarks.cold_start [--threads 2] [--repeats 5]

Medians after one run that is not counted, so files are in the system's cache, as on a machine that is in use. Beside the whole
stand its beginnings (Python alone, and Python with the command line imported), and the same command again, which finds
its features of the classes in the cache.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bundles import bundle
from benchmarks.memory import one_photo, predict, write_prompt
from benchmarks.options import parse
from benchmarks.photo_folders import make
from benchmarks.processes import run
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


def measure(threads: int, bundles: Path, repeats: int) -> dict[str, Any]:
    """Medians by what was started."""
    tiny = bundle(bundles, "tiny", "as shipped")
    with tempfile.TemporaryDirectory(prefix="qprompt-edge-start-") as name:
        folder = Path(name)
        prompt = write_prompt(
            tiny, make(folder / "photos", classes=2, shots=2), folder / "prompt.qpt", threads
        )
        seconds: dict[str, list[float]] = {what: [] for what in WORDS}
        peaks = []
        for _ in range(1 + repeats):
            for what, code in BEGINNINGS.items():
                seconds[what].append(run([sys.executable, "-c", code], threads=threads).seconds)
            for what, cache in (("predict", None), ("again", folder / "cache")):
                child = predict(tiny, prompt, one_photo(), threads, cache=cache)
                seconds[what].append(child.seconds)
                peaks.append(child.peak_mb)
    return {"seconds": {what: median(values[1:]) for what, values in seconds.items()}, "peak_mb": max(peaks)}


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    rows = [[what, duration(result["seconds"][key])] for key, what in WORDS.items()]
    return ["from the start of the process, tiny", "time"], [
        *rows,
        ["its peak memory", megabytes(result["peak_mb"])],
    ]


def main() -> None:
    """Run it from the command line."""
    options = parse(__doc__)
    result = measure(options.threads, options.bundles, options.repeats)
    print(text_table("Cold start", *table(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
