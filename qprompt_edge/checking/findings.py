"""What `check` finds: one type for each kind of finding, each with its photos' paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprompt_edge.data.photos import SkippedPhoto

Interval = tuple[float, float]


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be used, as `adapt` would leave it out.

    Attributes:
        path: The file.
        reason: Why.
    """

    path: Path
    reason: str

    @classmethod
    def of(cls, skipped: SkippedPhoto) -> Unreadable:
        """From what the reading of photos reports."""
        return cls(skipped.path, skipped.reason)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"path": str(self.path), "reason": self.reason}


@dataclass(frozen=True)
class Duplicates:
    """Photos that are the same or nearly so, two or more.

    Attributes:
        paths: The photos.
        labels: The label of each.
        identical: Whether all are the same, byte for byte.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    identical: bool

    @property
    def across_classes(self) -> bool:
        """Whether they have several labels, of which at most one is right."""
        return len(set(self.labels)) > 1

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "paths": list(map(str, self.paths)),
            "labels": list(self.labels),
            "identical": self.identical,
            "across_classes": self.across_classes,
        }


@dataclass(frozen=True)
class PoorPhoto:
    """A photo that is blurred, dark or blown out.

    Attributes:
        path: The photo.
        label: Its label.
        value: Its figure: `Quality.sharpness`, `brightest` or `darkest`.
        limit: The figure from which on it would not be listed; it depends on the other photos.
    """

    path: Path
    label: str
    value: float
    limit: float

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"path": str(self.path), "label": self.label, "value": self.value, "limit": self.limit}


@dataclass(frozen=True)
class ShortClass:
    """A class that is short of photos.

    Attributes:
        label: The class.
        photos: How many readable photos it has.
        distinct: How many of them are not nearly the same as another.
        wanted: How many distinct photos it should have at least.
    """

    label: str
    photos: int
    distinct: int
    wanted: int

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "label": self.label,
            "photos": self.photos,
            "distinct": self.distinct,
            "wanted": self.wanted,
        }


@dataclass(frozen=True)
class Mislabelled:
    """A photo that probably has the wrong label.

    Attributes:
        path: The photo.
        label: The label it has.
        looks_like: The class that it looks like.
        doubt: How probable it is that the label is wrong, 0 to 1.
    """

    path: Path
    label: str
    looks_like: str
    doubt: float

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "path": str(self.path),
            "label": self.label,
            "looks_like": self.looks_like,
            "doubt": self.doubt,
        }


@dataclass(frozen=True)
class MixedUp:
    """Two classes that cannot be told apart by what the backbone sees.

    Attributes:
        labels: The two classes.
        photos: How many photos both have.
        wrong: How many of them look more like the other of the two.
        share: The share of photos that look more like the other class, as a mean over the two.
        interval: 95% interval of the share.
        chance: Whether a coin would do as well.
        paths: The photos that look more like the other class.
    """

    labels: tuple[str, str]
    photos: int
    wrong: int
    share: float
    interval: Interval
    chance: bool
    paths: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "labels": list(self.labels),
            "photos": self.photos,
            "wrong": self.wrong,
            "share": self.share,
            "interval": list(self.interval),
            "chance": self.chance,
            "paths": list(map(str, self.paths)),
        }


@dataclass(frozen=True)
class CurvePoint:
    """How good a classifier is with so many photos.

    Attributes:
        photos: Photos of a class that it learned from, as a mean over the classes.
        top1: Share of other photos that it gets right.
        interval: 95% interval of that.
    """

    photos: float
    top1: float
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"photos": self.photos, "top1": self.top1, "interval": list(self.interval)}


@dataclass(frozen=True)
class LearningCurve:
    """Whether more photos would help.

    Attributes:
        points: From few photos of each class to nearly all; at least two.
        gain: What twice the photos would likely add to `top1`.
        interval: Where that gain lies in about nine cases of ten.
        enough: True: twice the photos would add less than a point. False: they would add more. None: too few
            to tell.
    """

    points: tuple[CurvePoint, ...]
    gain: float
    interval: Interval
    enough: bool | None

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "points": [point.to_json() for point in self.points],
            "gain": self.gain,
            "interval": list(self.interval),
            "enough": self.enough,
        }
