"""What share of the processor's rate the image tower of `small` reaches, in int8 and in floating point.

    python -m benchmarks.image_limit [--repeats 5]

The limit is the time that a photo's multiply-adds would take at the rates of plain large products: of float32
matrices (the faster of numpy and onnxruntime), and of bytes (onnxruntime), 2048 x 2048 each. An int8 tower
has some of either kind. On one core, in processor time; each time is the shortest of its runs, since whatever
else runs only adds to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bundles import DEFAULT, EMBEDDED
from benchmarks.options import parse
from benchmarks.processes import run_module
from benchmarks.roofline import SGEMM_SIZE
from benchmarks.tables import duration, percent, text_table

PRECISIONS = ("int8", "float")


def measure(_threads: int, _bundles: Path, repeats: int) -> dict[str, Any]:
    """Share and what it was computed from, by precision."""
    found = {}
    for precision in PRECISIONS:
        child = run_module(
            "benchmarks.limit_steps", "--backbone", EMBEDDED[DEFAULT], "--precision", precision,
            "--repeats", repeats, threads=1,
        )  # fmt: skip
        found[precision] = against_products(child.answer)
    return found


def against_products(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The limit and the share of it, from one child's answer."""
    least = {name: min(seconds) for name, seconds in answer["seconds"].items()}
    work = SGEMM_SIZE**3
    rates = {"float": work / min(least["numpy"], least["onnxruntime"]), "int8": work / least["bytes"]}
    limit = sum(answer["multiply_adds"][kind] / rate for kind, rate in rates.items())
    return {
        "multiply_adds": answer["multiply_adds"],
        "rates": rates,
        "seconds": least["photo"],
        "limit": limit,
        "share": limit / least["photo"],
    }


def table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people."""
    header = [
        f"one photo, one core: `{DEFAULT}` in", "multiply-adds in int8", "in float", "int8 product", "float product",
        "limit", "time", "share",
    ]  # fmt: skip
    rows = [
        [
            precision,
            *(f"{found['multiply_adds'][kind] / 1e6:.0f} M" for kind in PRECISIONS),
            *(f"{found['rates'][kind] / 1e9:.0f} G/s" for kind in PRECISIONS),
            duration(found["limit"]),
            duration(found["seconds"]),
            percent(found["share"]),
        ]
        for precision, found in result.items()
    ]
    return header, rows


def main() -> None:
    """Run it from the command line."""
    options = parse(__doc__)
    result = measure(options.threads, options.bundles, options.repeats)
    print(text_table("Image towers against plain products", *table(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
