"""How fast `watch` is, and its memory and open files over many answers, new prompts and lost cameras.

    python -m benchmarks.watching [--only speed health answers toy reloads losses] [--answers 100000]

Frames of 640 x 480 pixels come from memory. `speed`: one core and one thread, in turns with one prompt and
with ten, medians over the turns, by the clock on the wall and by processor time (on a busy machine that is
the honest one). `health`: what `--metrics` costs a frame, in turns without and with it. `answers`: ten
prompts answer each frame; resident memory after the first thousand answers, and the most and the last after
that, with the default backbone and with `tiny` as a toy. `reloads`: as many new versions of a prompt file,
each put in place atomically between two frames. `losses`: a camera that is lost after each frame and opened
again.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks.bundles import DEFAULT, EMBEDDED
from benchmarks.processes import run_module
from benchmarks.tables import text_table

TOY = "tiny"
PARTS = ("speed", "health", "toy health", "answers", "toy", "reloads", "losses")
WORDS = {
    "answers": f"answers, `{DEFAULT}`, ten prompts a frame",
    "toy": f"answers, `{TOY}`, ten prompts a frame",
    "reloads": "hot reloads",
    "losses": "camera losses",
}


def measure(part: str, count: int) -> dict[str, Any]:
    """One part, in a process of its own.

    Args:
        part: One of `PARTS`.
        count: Answers, reloads or losses; of `speed`, turns.
    """
    name = TOY if part.startswith("toy") else DEFAULT
    child = run_module("benchmarks.watch_steps", part, EMBEDDED[name], count, threads=1)
    answer: dict[str, Any] = child.answer
    return answer


def rows(result: dict[str, Any]) -> list[list[str]]:
    """What is shown to people, a row for each figure."""
    shown = []
    if speed := result.get("speed"):
        for kind, clocks in speed.items():
            for clock, found in clocks.items():
                rates = f"{found['one']:.1f} with one prompt, {found['ten']:.1f} with ten"
                shown.append(
                    [f"frames a second, {kind}, {clock} time", f"{rates} ({100 * found['share']:.1f}%)"]
                )
    for part in ("health", "toy health"):
        if cost := result.get(part):
            rates = f"{cost['without']:.1f} without, {cost['with']:.1f} with, {cost['milliseconds']:+.2f} ms"
            shown.append([f"frames a second, {part}, processor time", rates])
    for part, words in WORDS.items():
        if found := result.get(part):
            grown = f"{found['last_mb'] - found['first_mb']:+.1f} MB, at most {found['most_mb'] - found['first_mb']:+.1f}"
            files = f"{found['files'] - found['first_files']:+d} open files"
            threads = f"{found['threads'] - found['first_threads']:+d} threads"
            missed = f", {found['missed']} missed" if "missed" in found else ""
            shown.append(
                [
                    f"{found['count']:,} {words}",
                    f"{found['first_mb']:.1f} MB, then {grown}; {files}, {threads}{missed}",
                ]
            )
    return shown


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--turns", type=int, default=20, help="of speed: rounds of one prompt and of ten")
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--toy-answers", type=int, default=1_000_000)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--losses", type=int, default=1000)
    options = parser.parse_args()
    counts = {
        "speed": options.turns,
        "health": options.turns,
        "toy health": options.turns,
        "answers": options.answers,
        "toy": options.toy_answers,
        "reloads": options.reloads,
        "losses": options.losses,
    }
    result = {}
    for part in options.only:
        print(f"measuring {part}", file=sys.stderr)
        result[part] = measure(part, counts[part])
    print(text_table("Watching", ["", "measured"], rows(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
