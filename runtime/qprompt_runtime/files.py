"""Writing files so that a reader never sees half of one.

Every file of this project is written to a temporary name beside its place, synced, and renamed: a process
that dies, or a device that loses power, at any moment leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from qprompt_runtime.errors import OutputError


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`, all of it or nothing.

    Args:
        path: Where the file shall stand; its folder is created if it is missing.
        data: The whole content.

    Raises:
        OutputError: The folder or the file cannot be written (read-only, disk full, a folder of that name);
            a file that stood at `path` before still stands there unchanged.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}; choose another place or free some space"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def check_writable(path: Path) -> None:
    """Find out early whether `write_atomic` can write a file, before hours of work depend on it.

    Raises:
        OutputError: `path` is a folder, or nothing can be written beside it.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent):
            pass
    except OSError as error:
        raise _output_error(path, error) from error


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}; choose another place or free some space")


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; file systems without folder handles are left as they are."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
