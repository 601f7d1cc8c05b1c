"""Writing files so that a reader never sees an incomplete one.

Every file of this project is written under a temporary name beside its place, synced, and renamed. If the
process dies or the device loses power, the old file or the new one is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path

from qprompt_runtime.errors import OutputError

_DEVICES = Path("/dev")
_CANNOT_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` to `path`, all of it or nothing.

    Args:
        path: The file to write; its folder is created if it is missing.
        data: The whole content.
        mode: Who may read and write it, from the moment that it has its name.

    Raises:
        OutputError: The folder or the file cannot be written (read-only, disk full), or what stands at `path`
            is no file (a folder, a device, a pipe); what stood there before still stands there unchanged.
    """
    temporary: Path | None = None
    try:
        _refuse_what_is_no_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        set_mode(temporary, mode)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def check_writable(path: Path) -> None:
    """Find out early whether `write_atomic` can write a file, before hours of work depend on it.

    Raises:
        OutputError: What stands at `path` is no file, or nothing can be written beside it.
    """
    try:
        _refuse_what_is_no_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent):
            pass
    except OSError as error:
        raise _output_error(path, error) from error


def _refuse_what_is_no_file(path: Path) -> None:
    """Refuse to replace a folder, a device such as /dev/null, or a pipe; a link counts as what it leads to.

    Links of /dev are refused too: root would replace /dev/stdout, which leads to a file if it is redirected.

    Raises:
        OSError: There is such a thing at `path`.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode) or path.parent.resolve() == _DEVICES:
        raise OSError(errno.EINVAL, "it is not a regular file")


def set_mode(path: Path, mode: int) -> None:
    """Set permissions where the file system has any.

    exFAT, FAT and network shares refuse; the file is complete without them.
    """
    with contextlib.suppress(OSError):
        path.chmod(mode)


def user_home() -> Path | None:
    """The user's home folder; None for a user without one.

    An example is a service without HOME and without a passwd entry.
    """
    if os.environ.get("HOME") == "":
        return None
    try:
        return Path.home()
    except RuntimeError:
        return None


def is_file(path: Path) -> bool:
    """Whether a file can be seen there; in a folder that we may not enter there is nothing for us."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder can be seen there."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}; choose another place or free some space")


def _sync(descriptor: int) -> None:
    """Make what was written durable, where the file system knows how.

    Raises:
        OSError: It was not written (disk full, a defect).
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; file systems without folder handles are left as they are."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
