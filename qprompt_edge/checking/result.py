"""The result of `check`: all findings, as values, as JSON, and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qprompt_edge.checking.findings import (
    Duplicates,
    LearningCurve,
    Mislabelled,
    MixedUp,
    PoorPhoto,
    ShortClass,
    Unreadable,
)
from qprompt_edge.checking.words import summary
from qprompt_runtime.text import counted


@dataclass(frozen=True, repr=False)
class CheckResult:
    """What `check` found. Each kind of finding is listed with the most telling first.

    Attributes:
        classes: Readable photos by label.
        unreadable: Files that cannot be used.
        duplicates: Groups of photos that are the same or nearly so; those with several labels first.
        blurred: Photos with far less fine detail than the others.
        dark: Photos in which even the bright parts are dark.
        blown_out: Photos in which even the dark parts are bright.
        short_classes: Classes that are short of photos.
        mislabelled: Photos that probably have the wrong label, the most doubtful first.
        mixed_up: Pairs of classes that cannot be told apart.
        curve: Whether there are enough photos; None if there are too few to tell, or a single class.
        backbone: The backbone's model name.
        provider: Execution provider that ran it.
        seconds: `encode` and `total`.
        peak_rss_mb: Peak resident memory.
    """

    classes: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[Duplicates, ...]
    blurred: tuple[PoorPhoto, ...]
    dark: tuple[PoorPhoto, ...]
    blown_out: tuple[PoorPhoto, ...]
    short_classes: tuple[ShortClass, ...]
    mislabelled: tuple[Mislabelled, ...]
    mixed_up: tuple[MixedUp, ...]
    curve: LearningCurve | None
    backbone: str
    provider: str
    seconds: dict[str, float]
    peak_rss_mb: float

    @property
    def photos(self) -> int:
        """How many photos could be read."""
        return sum(self.classes.values())

    @property
    def found(self) -> int:
        """How many findings there are; the learning curve does not count."""
        return sum(len(listed) for listed in self._lists().values())

    def _lists(self) -> dict[str, tuple[Any, ...]]:
        return {
            "unreadable": self.unreadable,
            "duplicates": self.duplicates,
            "blurred": self.blurred,
            "dark": self.dark,
            "blown_out": self.blown_out,
            "short_classes": self.short_classes,
            "mislabelled": self.mislabelled,
            "mixed_up": self.mixed_up,
        }

    def __repr__(self) -> str:
        return f"<CheckResult of {counted(self.photos, 'photo')}: {counted(self.found, 'finding')}>"

    def summary(self) -> str:
        """The report that the command prints, as lines of plain text."""
        return summary(self)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON can hold it; `check --json` prints this."""
        return {
            "photos": self.photos,
            "classes": dict(self.classes),
            **{name: [finding.to_json() for finding in listed] for name, listed in self._lists().items()},
            "curve": None if self.curve is None else self.curve.to_json(),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "peak_rss_mb": round(self.peak_rss_mb, 1),
            "backbone": self.backbone,
            "provider": self.provider,
        }
