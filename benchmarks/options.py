"""The options that every benchmark takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.bundles import default_folder


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser with the common options.

    Args:
        text: The module's text; its first paragraph is the description.
    """
    made = argparse.ArgumentParser(description=" ".join((text or "").split("\n\n")[0].split()))
    made.add_argument("--threads", type=int, default=2, help="threads of either side")
    made.add_argument("--bundles", type=Path, default=default_folder(), help="where random bundles are kept")
    made.add_argument("--repeats", type=int, default=5, help="rounds; figures are medians over them")
    return made


def parse(text: str | None) -> argparse.Namespace:
    """The common options from the command line."""
    return parser(text).parse_args()
