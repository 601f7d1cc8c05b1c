"""Output of all commands: results go to stdout, messages and progress to stderr, errors are one line."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from qprompt_edge.reporter import Reporter
from qprompt_runtime.cores import startable_threads
from qprompt_runtime.errors import QPromptError
from qprompt_runtime.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


P = ParamSpec("P")

_PLAIN_SECONDS = 5.0
_ENDLESS = 10_000
_NARROWEST = 30


def console(*, stderr: bool = False) -> Console:
    """Where rich writes; it is imported when something needs it, here and below.

    A stream that is no terminal has no width: lines are then as long as they need to be.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else _ENDLESS)


def say(line: str) -> None:
    """Print a message for people, on stderr; whatever would move the cursor is shown, not done."""
    typer.echo(_wrapped(printable(line), stderr=True), err=True)


def show(line: str, *, aside: bool = False) -> None:
    """Print a line of the result on stdout; `aside` (where stdout is JSON) puts it on stderr."""
    typer.echo(_wrapped(printable(line), stderr=aside), err=aside)


def _wrapped(line: str, *, stderr: bool) -> str:
    """A line, broken between words where the terminal is narrower; in a file or a pipe it stays whole."""
    width = _width(stderr)
    return (
        line
        if len(line) <= width
        else textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    )


def _width(stderr: bool) -> int:
    """Columns of the terminal that a stream is; no limit where it is none."""
    return shutil.get_terminal_size().columns if (sys.stderr if stderr else sys.stdout).isatty() else _ENDLESS


def emit(value: Any) -> None:
    """Print one JSON value as a line on stdout; undefined numbers become null."""
    emit_defined(_defined(value))


def emit_defined(value: Any) -> None:
    """`emit` for a value without undefined numbers, where there are many."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _defined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _defined(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def table(title: str, columns: dict[str, str], rows: list[list[str]], *, aside: bool = False) -> None:
    """Print a table of results on stdout.

    Args:
        title: Above the table.
        columns: Heading to justification (`left` or `right`).
        rows: Cells as plain text.
        aside: Whether it goes to stderr, because stdout is JSON.
    """
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for heading, justify in columns.items():
        grid.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    place = console(stderr=aside)
    place.print(Text(printable(title), style="bold"), soft_wrap=True)
    place.print(grid)


def section(title: str, facts: dict[str, str], *, aside: bool = False) -> None:
    """Print a heading, and below it named facts, one a line, wrapped to the terminal.

    Args:
        title: The heading.
        facts: Name to text; an empty text is left out.
        aside: Whether it goes to stderr, because stdout is JSON.
    """
    show("", aside=aside)
    show(title, aside=aside)
    names = max(map(len, facts), default=0)
    width = _width(stderr=aside)
    for name, fact in facts.items():
        start = f"  {printable(name):{names}}  "
        if fact:
            lines = textwrap.wrap(
                printable(fact), max(width - len(start), _NARROWEST), break_on_hyphens=False
            )
            typer.echo(start + ("\n" + " " * len(start)).join(lines), err=aside)


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn a command's errors into one line and an exit code; with `--json`, also into JSON on stdout."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="PIL")  # damaged files are reported by name instead
                warnings.showwarning = _say_warning  # type: ignore[assignment]  # its other arguments say where
                command(*args, **kwargs)
        except QPromptError as error:
            fail(str(error), as_json, error.exit_code)
        except MemoryError:
            fail("out of memory; try --max-memory, a smaller backbone, or fewer threads", as_json)
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of our output has gone: nothing left to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None

    return run


def _say_warning(message: Warning | str, *_where: object) -> None:
    say(f"warning: {message}")


def fail(message: str, as_json: bool, code: int = 1) -> None:
    """Print an error and exit with `code`."""
    line = printable(message)
    typer.echo(typer.style("error: ", fg="red", bold=True) + line, err=True)
    if as_json:
        emit({"error": line})
    raise typer.Exit(code)


@contextmanager
def progress_reporter() -> Iterator[Reporter]:
    """A reporter with bars and time left on a terminal, or a plain line every few seconds elsewhere."""
    if not sys.stderr.isatty() or startable_threads(1) == 0:  # bars need a thread
        yield _plain_reporter()
        return
    with ExitStack() as stack:
        bars: list[Progress] = []
        tasks: dict[str, TaskID] = {}

        def stage(name: str, done: int, total: int) -> None:
            if name not in tasks:
                if done >= total:  # over before anything was shown: one photo needs no bar
                    return
                if not bars:
                    bars.append(stack.enter_context(_bars()))
                tasks[name] = bars[0].add_task(name, total=total)
            bars[0].update(tasks[name], completed=done, total=total)

        def note(line: str) -> None:
            if bars:
                from rich.text import Text

                bars[0].console.print(Text(line))
            else:
                say(line)

        yield Reporter(stage=stage, note=note)


def _bars() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),  # above the bars; into a file or pipe, results go past them
    )


def _plain_reporter() -> Reporter:
    """Lines such as `encoding photos: 120 of 400, 12 s left`."""
    began: dict[str, tuple[float, int]] = {}
    last = [time.monotonic()]

    def stage(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        start, first = began.setdefault(name, (now, done))
        if now - last[0] >= _PLAIN_SECONDS and done > first:
            last[0] = now
            left = (now - start) / (done - first) * (total - done)
            say(f"{name}: {done} of {total}, {left:.0f} s left")

    return Reporter(stage=stage, note=say)
