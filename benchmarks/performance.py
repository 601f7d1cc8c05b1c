"""Every benchmark in one run; its figures become docs/performance.json, and those docs/performance.md.

    python -m benchmarks.performance [--threads 2] [--bundles DIR] [--repeats 5] [--aarch64 FILE]
    python -m benchmarks.performance --only memory cold_start     # measure some parts again, keep the others
    python -m benchmarks.performance --only neighbours --tensorflow PYTHON
    python -m benchmarks.performance --from docs/performance.json # only write the page again

`--aarch64` and `--accuracy` take the last lines of `python -m benchmarks.aarch64` and `benchmarks.accuracy`
in a file each. `--tensorflow` names the Python of an environment with TensorFlow, for a row of `neighbours`.
`machines` in the figures says for each part what it was measured on, and the page says which parts were not
measured on its own machine.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    adaptation,
    cold_start,
    default_method,
    document,
    image_limit,
    images,
    installed,
    machine,
    memory,
    neighbours,
    scaling,
    steps,
    thousand_classes,
)
from benchmarks.options import parser
from benchmarks.processes import ROOT, last_json

FIGURES = ROOT / "docs" / "performance.json"
PAGE = ROOT / "docs" / "performance.md"
Part = Callable[..., dict[str, Any]]
PARTS: dict[str, Part] = {
    "installed": lambda _threads, _bundles, _repeats: installed.measure(),
    "cold_start": cold_start.measure,
    "images": images.measure,
    "image_limit": image_limit.measure,
    "steps": steps.measure,
    "memory": memory.measure,
    "scaling": scaling.measure,
    "adaptation": adaptation.measure,
    "default_method": lambda threads, bundles, _repeats: default_method.measure(threads, bundles),
    "thousand_classes": thousand_classes.measure,
    "neighbours": neighbours.measure,
}


def store(path: Path, figures: dict[str, Any]) -> None:
    """Write figures so that a change of one shows as a change of one line."""
    path.write_text(json.dumps(_rounded(figures), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Floats to six figures: what is measured has no more."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Measure, store, and write the page."""
    made = parser(__doc__)
    made.add_argument("--only", nargs="*", choices=list(PARTS), default=None, help="measure only these parts")
    made.add_argument(
        "--from", dest="source", type=Path, help="measure nothing, write the page from this file"
    )
    made.add_argument("--aarch64", type=Path, help="result of benchmarks.aarch64, for a section of its own")
    made.add_argument("--accuracy", type=Path, help="result of benchmarks.accuracy, for a section of its own")
    made.add_argument("--tensorflow", help="Python with tensorflow-cpu and Pillow, for `neighbours`")
    made.add_argument("--figures", type=Path, default=FIGURES)
    made.add_argument("--page", type=Path, default=PAGE)
    options = made.parse_args()
    known = options.source or options.figures
    keep = options.source is not None or options.only is not None
    figures: dict[str, Any] = json.loads(known.read_text(encoding="utf-8")) if keep and known.exists() else {}
    wanted = () if options.source else tuple(options.only or PARTS)
    machines = figures.setdefault("machines", {})
    for part in ("aarch64", "accuracy"):
        if given := getattr(options, part):
            figures[part] = last_json(given.read_text(encoding="utf-8"))
            machines[part] = figures[part].pop("machine")
    here = machine.measure(options.threads)
    for name in wanted:
        started = time.monotonic()
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        given = {"tensorflow": options.tensorflow} if name == "neighbours" else {}
        figures[name] = PARTS[name](options.threads, options.bundles, options.repeats, **given)
        machines[name] = here
        store(options.figures, figures)  # after each part: the next may take long, or fail
        print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    store(options.figures, figures)
    options.page.write_text(
        document.write(json.loads(options.figures.read_text(encoding="utf-8"))), encoding="utf-8"
    )
    print(options.page)


if __name__ == "__main__":
    main()
