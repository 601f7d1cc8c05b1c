"""The command line: one module per command group, each a thin call into the library."""

from __future__ import annotations

import sys
from typing import NoReturn

_LARGEST_32_BIT = 2**32


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run `qprompt-edge`.

    Args:
        arguments: The words after the program's name; None takes the process's.

    Exits with 0 (done), 1 (failed or bad input), 2 (wrong usage) or 130 (interrupted).
    """
    if sys.maxsize < _LARGEST_32_BIT:  # onnxruntime would fail to load with a message that explains nothing
        print("qprompt-edge needs a 64-bit system: this Python is 32-bit", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    try:
        from qprompt_edge.cli.app import app

        app(arguments, prog_name="qprompt-edge")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
