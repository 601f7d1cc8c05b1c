"""Other machines, as far as this one can imitate them.

Another user, refused system calls, streams that take nothing.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

STRACE = ("strace", "-f", "-o", "/dev/null")
ANOTHER_USER = ("unshare", "-U", "--map-user=12345")


def works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_strace = pytest.mark.skipif(
    not works(*STRACE, "true"), reason="strace is missing here, or may not trace"
)
needs_another_user = pytest.mark.skipif(
    not works(*ANOTHER_USER, "true"), reason="unshare cannot play another user here"
)


def qprompt_edge(
    *arguments: object,
    before: Sequence[str] = (),
    streams: str = "",
    environment: dict[str, str | None] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own.

    Args:
        arguments: The words after the program's name.
        before: A command that runs it, such as strace.
        streams: Redirections, as a shell writes them.
        environment: Variables that differ from this process's; None unsets one.
        folder: Where it runs.
    """
    words = [*before, sys.executable, "-m", "qprompt_edge", *map(str, arguments)]
    changed = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    return subprocess.run(
        ["sh", "-c", f"exec {shlex.join(words)} {streams}"],
        env={name: value for name, value in changed.items() if value is not None},
        cwd=folder,
        capture_output=True,
        check=False,
    )


def assert_one_error(done: subprocess.CompletedProcess[bytes], *words: str) -> None:
    """Exit code 1 and a single line on stderr, which holds these words."""
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: "), line
    for word in words:
        assert word in line, line
