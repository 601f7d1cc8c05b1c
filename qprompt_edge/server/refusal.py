"""A request that is refused: its status, and one line that says why."""

from __future__ import annotations

from qprompt_runtime.errors import QPromptError


class Refusal(QPromptError):
    """What a request asks for cannot be done.

    Args:
        status: Of HTTP, 400 to 599.
        reason: One line: what came, what was expected, what to do.
        retry: Seconds after which another try makes sense; None says nothing.
    """

    def __init__(self, status: int, reason: str, retry: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.retry = status, retry
