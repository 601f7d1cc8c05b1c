"""An existing file is replaced only by a prompt for the same classes, or with `--force`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from qprompt_runtime.errors import OutputError, QPromptError
from qprompt_runtime.prompt_file import PromptFile
from qprompt_runtime.text import printable

_NAMED = 5


def check_replaceable(
    out: Path, labels: Callable[[], Iterable[str]], read: Callable[[Path], PromptFile]
) -> None:
    """Refuse to write over a file that is not this task's own; what a file is, its content decides.

    Args:
        out: The prompt file to write.
        labels: Gives the labels of the new prompt; called only if there is a prompt now.
        read: Reads the prompt in a file.

    Raises:
        OutputError: A file stands at `out` that holds no prompt, or one for other classes.
    """
    if not out.is_file():
        return
    try:
        existing = [name.label for name in read(out).classes]
    except QPromptError as error:
        raise OutputError(
            f"{printable(out)} exists and is not a readable prompt file ({error}); choose another "
            "--out, or replace it with --force"
        ) from error
    if set(existing) != set(labels()):
        raise OutputError(
            f"{printable(out)} exists and is another task's prompt, for the classes "
            f"{named(existing)}; choose another --out, or replace it with "
            "--force"
        )


def named(labels: Sequence[str]) -> str:
    """The first labels, and how many more there are."""
    more = f" and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    return ", ".join(map(printable, labels[:_NAMED])) + more
