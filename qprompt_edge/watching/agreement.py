"""A state changes only when enough of the last frames agree, so that one odd frame starts no machine."""

from __future__ import annotations

from collections import deque


class Agreement:
    """The state of one region under one prompt.

    Args:
        least: How many of the last frames must agree.
        of: How many frames count.
    """

    def __init__(self, least: int = 1, of: int = 1) -> None:
        self._least = least
        self._votes: deque[str | None] = deque(maxlen=of)
        self.state: str | None = None

    def vote(self, vote: str | None) -> bool:
        """Count a frame.

        Args:
            vote: What it shows; None if that is uncertain, which counts as a frame that agrees with none.

        Returns:
            Whether the state has changed.
        """
        self._votes.append(vote)
        if vote is None or vote == self.state or self._votes.count(vote) < self._least:
            return False
        self.state = vote
        return True

    def forget(self) -> None:
        """Count anew; the state stays."""
        self._votes.clear()


def parse_agreement(text: str) -> tuple[int, int]:
    """Read `N/M`: N of the last M frames.

    Raises:
        ValueError: Says what came and what was expected.
    """
    least, _, of = text.partition("/")
    if least.isdecimal() and of.isdecimal() and 1 <= int(least) <= int(of) <= 1000:
        return int(least), int(of)
    raise ValueError(
        f"{text!r}: expected N/M with 1 <= N <= M <= 1000, such as 3/5: three of the last five frames"
    )
