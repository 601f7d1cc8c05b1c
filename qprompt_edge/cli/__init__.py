"""The command line: one module per command group, each a thin call into the library."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import NoReturn

from qprompt_edge.cli.streams import open_streams
from qprompt_runtime.cores import processors, startable_threads
from qprompt_runtime.errors import QPromptError

_LARGEST_32_BIT = 2**32
_IDLE_TICKS = "22"
"""Binary logarithm of the ticks for which OpenBLAS's threads look for work: 2 ms instead of its 27."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run `qprompt-edge`.

    Args:
        arguments: The words after the program's name; None takes the process's.

    Exits with 0 (done), 1 (failed or bad input), 2 (wrong usage) or 130 (interrupted).
    """
    open_streams()
    if sys.maxsize < _LARGEST_32_BIT:  # onnxruntime would fail to load with a message that explains nothing
        print("qprompt-edge needs a 64-bit system: this Python is 32-bit", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    _spare_threads()
    if arguments is None:  # the process is ours
        gc.disable()  # starting makes no garbage, and looking for it takes time; commands enable it again
        atexit.register(_spare_last_look)
    try:
        from qprompt_edge.cli.app import app

        app(arguments, prog_name="qprompt-edge")
    except (KeyboardInterrupt, ImportError) as error:
        if not _interrupted(error):  # a Ctrl-C while C modules start becomes an ImportError
            raise
        sys.exit(130)
    except QPromptError as error:  # a help that cannot be written; commands report their own
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    sys.exit(0)


def _spare_last_look() -> None:
    """Have Python end without looking through all modules for garbage.

    Where an export has loaded torch, it looks: a library of torch's reports all that is left as leaked.
    """
    if "torch" not in sys.modules:
        gc.freeze()


def _interrupted(error: BaseException | None) -> bool:
    """Whether an error comes from a Ctrl-C."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _spare_threads() -> None:
    """Keep numpy's library to one thread where the system refuses more, and its idle threads off the cores.

    Called before the library is loaded, because it would end the process. Its threads look for work as soon
    as they start, and after each product.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", _IDLE_TICKS)
    wanted = processors() - 1
    if startable_threads(wanted) < wanted:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
