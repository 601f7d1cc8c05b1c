"""Answers, and those who take them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from qprompt_edge.watching.frames import Frame
from qprompt_runtime.arrays import Array

NONE_OF_THESE = "none of these"
"""The state of a region that shows none of the classes."""

WHOLE = "frame"
"""The name of the region that is the whole frame, where no regions are given."""


@dataclass(frozen=True)
class Answer:
    """What a prompt says about a region of a frame.

    Attributes:
        time: When the frame was taken, in seconds since 1970.
        source: Where it comes from: a file's path, or the name of the camera or stream.
        region: The region's name; `WHOLE` for the whole frame.
        prompt: The prompt's name: its file's, without the ending.
        label: The likeliest class.
        probability: Its probability, 0 to 1.
        none_of_these: Whether the region looks like none of the classes; None if the prompt does not tell.
        state: What enough frames agree on: a label, or `NONE_OF_THESE`; None until they do.
        changed: Whether the state is another than before this frame.
        predictions: Labels and probabilities of the likeliest classes, best first.
        features: float32 [E], length 1, what the classes were compared with; None where nobody gave them.
        score: How much the region looks like one of the classes; None if that was not computed.
    """

    time: float
    source: str
    region: str
    prompt: str
    label: str
    probability: float
    none_of_these: bool | None
    state: str | None
    changed: bool
    predictions: tuple[tuple[str, float], ...]
    features: Array | None = field(default=None, compare=False, repr=False)
    score: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The answer as JSON has it; the time as in RFC 3339, in UTC."""
        return {
            "time": rfc3339(self.time),
            "source": self.source,
            "region": self.region,
            "prompt": self.prompt,
            "label": self.label,
            "probability": self.probability,
            "none_of_these": self.none_of_these,
            "state": self.state,
            "changed": self.changed,
            "predictions": [{"label": label, "probability": value} for label, value in self.predictions],
        }


class Sink:
    """Takes what the loop has to say; a sink overrides what it needs. Nothing here may block or raise.

    All calls come from the loop's thread, in order. `answer`'s frame is decoded; it may be kept, and is not
    changed.
    """

    def ready(self, prompts: Mapping[str, tuple[str, ...]], regions: tuple[str, ...], source: str) -> None:
        """The loop begins, or a prompt was exchanged for a new version.

        Args:
            prompts: Name of each prompt to its labels.
            regions: Names of the regions.
            source: Name of the source.
        """

    def answer(self, answer: Answer, frame: Frame) -> None:
        """A prompt has answered on a region of a frame."""

    def skipped(self, frame: Frame, reason: str) -> None:
        """A frame could not be read."""

    def present(self, here: bool, reason: str) -> None:
        """The source is lost (with the reason), or back; called when that changes, first at a loss."""

    def withdrawn(self, prompts: Mapping[str, str]) -> None:
        """These prompts give no answers, and all others do; called when that changes.

        Args:
            prompts: Name of each to the reason: it has expired, or its key was revoked.
        """

    def close(self) -> None:
        """The loop has ended; wait a moment at most for what is under way."""


@functools.lru_cache(maxsize=16)  # of one frame come many answers
def rfc3339(seconds: float) -> str:
    """Seconds since 1970 as text, in UTC with milliseconds: `2026-05-01T08:30:00.250Z`."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """Seconds since 1970 from what `rfc3339` wrote.

    Raises:
        ValueError: It is no such time.
    """
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
