"""stdout and stderr under a service, on a full disk, or with another encoding.

Results that cannot be written are an error, once; a command that has none does not look at stdout. Messages
that cannot be written are dropped: nobody reads them. What a stream's encoding does not have, such as a file
name that is no text, is written as an escape.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from qprompt_runtime.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT, _STDERR = 1, 2


def open_streams() -> None:
    """Have Python write to stdout and stderr by the rules above; call it before anything is opened."""
    for number in range(_STDERR + 1):
        try:
            os.fstat(number)
        except OSError:  # closed: else a file of ours would get this number, and what libraries print there
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = _stream(sys.stdout, sys.__stdout__, _STDOUT)
    sys.stderr = _stream(sys.stderr, sys.__stderr__, _STDERR)


def beside_a_file(as_json: bool) -> bool:
    """Whether what a command says about the file that it has written goes to stderr.

    So it is if stdout is for JSON, or closed.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return as_json or (isinstance(raw, _Descriptor) and raw.missing)


def try_stdout_again() -> None:
    """Write results again, which are dropped since they could not be written: the disk may have room now."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Descriptor):
        raw.lost = False


def _stream(now: TextIO | None, original: TextIO | None, number: int) -> TextIO:
    """A stream on a descriptor, or the one that somebody (a test) has put in its place."""
    if now is not None and now is not original:
        return now
    raw = _Descriptor(number, closed=now is None)
    encoding = "utf-8" if now is None else now.encoding
    by_line = number == _STDERR or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=by_line)


class _Descriptor(io.RawIOBase):
    """A standard stream's descriptor.

    Args:
        number: 1 or 2.
        closed: Whether the process was started without it.
    """

    def __init__(self, number: int, closed: bool) -> None:
        self._number, self.missing, self.lost = number, closed, False

    def writable(self) -> bool:
        """Whether it is for writing: always."""
        return True

    def fileno(self) -> int:
        """The descriptor's number."""
        return self._number

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._number)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the data; once that has failed, all of it is dropped.

        Raises:
            OutputError: Results cannot be written; the first time only.
            BrokenPipeError: Their reader has gone; the first time only.
        """
        reason = "it is closed"
        if not (self.missing or self.lost):
            try:
                return os.write(self._number, data)
            except OSError as error:
                if isinstance(error, BrokenPipeError) and self._number == _STDOUT:
                    self.lost = True
                    raise
                reason = error.strerror or str(error)
        if self._number == _STDOUT and not self.lost:
            self.lost = True
            raise OutputError(f"cannot write the results to stdout: {reason}")
        self.lost = True
        return memoryview(data).nbytes
