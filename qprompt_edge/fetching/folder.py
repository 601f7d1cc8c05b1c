"""A prompt from a file, or the newest of a folder: one that is synchronised, mounted, or on a stick."""

from __future__ import annotations

from pathlib import Path

from qprompt_edge.fetching.sources import Content, FetchError, check_size
from qprompt_runtime.admission import admitted
from qprompt_runtime.cose_sign1 import claims_in
from qprompt_runtime.errors import QPromptError
from qprompt_runtime.policy import ENFORCE, Policy, in_force
from qprompt_runtime.text import printable

_Rank = tuple[int, int, int, str]


class FolderSource:
    """A file, or a folder of them.

    Args:
        address: Its path.
        policy: What the caller asks for beside the device's policy. Under `enforce` the newest file of a
            folder is the newest of those that pass it, so that a foreign one does not hide it.
    """

    def __init__(self, address: str, policy: Policy) -> None:
        self.address, self.name, self._policy = address, printable(address), policy

    def read(self) -> Content:
        """The file; of a folder the `*.qpt` of the highest sequence, of unsigned ones the latest.

        Raises:
            FetchError: There is none, or none can be read.
        """
        path = Path(self.address)
        try:
            if not path.is_dir():
                return Content(_content(path), self.name)
            files = [file for file in path.iterdir() if file.suffix == ".qpt" and file.is_file()]
        except OSError as error:
            raise FetchError(f"{self.name} cannot be read: {error.strerror or error}") from error
        ranked = sorted(filter(None, map(_ranked, files)), reverse=True, key=lambda it: it[0])
        if not ranked:
            raise FetchError(f"{self.name} holds no prompt (*.qpt) that can be read")
        enforced = in_force().tightened(self._policy).level == ENFORCE
        passing = (it for _, it in ranked if not enforced or self._passes(it.data))
        return next(passing, ranked[0][1])  # if none passes, `install` says why

    def _passes(self, data: bytes) -> bool:
        try:
            admitted(data, self._policy)
        except QPromptError:
            return False
        return True


def _ranked(path: Path) -> tuple[_Rank, Content] | None:
    """A file with its place in the order; None for one that cannot be read, or is half copied."""
    try:
        data = _content(path)
        changed = path.stat().st_mtime_ns
        claims = claims_in(data)
    except (OSError, QPromptError):
        return None
    sequence, issued = (0, 0) if claims is None else (claims.sequence, claims.issued)
    return (sequence, issued, changed, path.name), Content(data, printable(path))


def _content(path: Path) -> bytes:
    """A file's content.

    Raises:
        OSError: It cannot be read.
        FetchError: It is too large.
    """
    check_size(path.stat().st_size, printable(path))
    return path.read_bytes()
