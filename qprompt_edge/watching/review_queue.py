"""What `watch` keeps for review: the frames it was least sure of, or that look like none of the classes.

Four limits keep this harmless for months. A frame that is nearly the same as one kept before is not kept. A
camera adds one a second at most, and one a minute once the queue is full, so that a card is not worn out by
writing. Count and megabytes are capped: when the queue is full, of its older half the frame goes that the
prompt was surest of. So the newest frames are always there, and what stays of the older ones are the hardest.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from qprompt_edge.watching.review import (
    UNSURE_BELOW,
    ReviewFrame,
    frame_ids,
    is_frame_id,
    margin,
    new_id,
    read_frame,
    remove_frame,
    write_frame,
)
from qprompt_runtime.arrays import Array

MOST_FRAMES = 500
MOST_MEGABYTES = 200.0
SAME_SCENE = 0.95
"""Cosine of the features of two frames that count as nearly the same."""

LONGEST = 1280
"""Width and height of a kept picture at most; backbones read 224 to 384 pixels."""

_QUALITY = 90
_REMEMBERED = 1000
_SPACING, _SPACING_FULL = 1.0, 60.0  # seconds
_LEFTOVER = 3600.0  # seconds after which a file that no frame belongs to is no writer's any more


@dataclass(frozen=True)
class Seen:
    """A frame as the loop has it, and what one prompt said of it.

    Attributes:
        picture: Gives what was classified (the region, where there is one), mode RGB; asked for only if it is
            kept.
        time: When it was seen, in seconds since 1970.
        source: Where it came from.
        region: Name of the region; None for the whole frame.
        prompt: Name of the prompt.
        predictions: Labels and probabilities, best first; two or more where the prompt has as many classes.
        none_of_these: Whether it looks like none of the classes; None if that was not asked.
        features: float32 [E], length 1.
        space: What these are comparable with: the backbone's fingerprint in hex, or another word for features
            that are the prompt's own.
        live: Whether it came from a camera or stream, which soon shows another; each file of a folder counts
            for itself.
    """

    picture: Callable[[], Image.Image]
    time: float
    source: str
    region: str | None
    prompt: str
    predictions: tuple[tuple[str, float], ...]
    none_of_these: bool | None
    features: Array
    space: str
    live: bool = True


def is_doubtful(predictions: tuple[tuple[str, float], ...], none_of_these: bool | None) -> bool:
    """Whether an answer makes a frame worth a person's look."""
    return bool(none_of_these) or margin(predictions) < UNSURE_BELOW


class ReviewQueue:
    """A folder of frames to review, kept within its limits.

    One process writes to it; others may remove frames.

    Args:
        folder: Where; it is created with the first frame.
        most_frames: Frames that it holds at most, at least 1.
        most_megabytes: MB of 10^6 bytes that they take at most.
        clock: Seconds from any start, which no one sets.
    """

    def __init__(
        self,
        folder: Path,
        most_frames: int = MOST_FRAMES,
        most_megabytes: float = MOST_MEGABYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.most_frames, self.most_bytes = folder, most_frames, int(most_megabytes * 1e6)
        self._clock = clock
        self._last: dict[tuple[str, str | None, str], float] = {}
        self._scenes = _Scenes()
        self._kept: dict[str, _Kept] = {}
        _remove_leftovers(folder)
        self._look()

    def offer(self, seen: Seen) -> bool:
        """Keep a frame, if it is worth a person's look.

        Returns:
            Whether it was kept.

        Raises:
            OutputError: It cannot be written; the queue goes on with the next.
            ImageError: Its picture cannot be had.
        """
        if not is_doubtful(seen.predictions, seen.none_of_these):
            return False
        if seen.live and not self._is_due(seen):
            return False
        tag = f"{seen.prompt}\0{seen.space}"
        if self._scenes.has(seen.features, tag):
            return False
        self._last[_stream(seen)] = self._clock()  # what fails is not tried again with the next frame either
        jpeg = _jpeg(seen.picture())
        digest = hashlib.sha256(f"{tag}\0{seen.source}\0{seen.region}\0".encode() + jpeg).hexdigest()
        frame = ReviewFrame(
            new_id(seen.time, digest),
            seen.time,
            seen.source,
            seen.region,
            seen.prompt,
            seen.predictions,
            seen.none_of_these,
            seen.features,
            seen.space,
        )
        if not self._make_room(len(jpeg)):
            return False
        self._kept[frame.id] = _Kept(write_frame(self.folder, frame, jpeg), frame.sureness)
        self._scenes.add(seen.features, tag)
        return True

    def _is_due(self, seen: Seen) -> bool:
        last = self._last.get(_stream(seen))
        spacing = _SPACING_FULL if len(self._kept) >= self.most_frames else _SPACING
        return last is None or self._clock() - last >= spacing

    def _look(self) -> None:
        """Take note of what is in the folder now: a reader may have removed frames."""
        ids = frame_ids(self.folder)
        for gone in self._kept.keys() - set(ids):
            del self._kept[gone]
        for name in ids:
            if name not in self._kept:
                frame = read_frame(self.folder, name)
                if frame is not None and frame.features is not None:
                    self._scenes.add(frame.features, f"{frame.prompt}\0{frame.space}")
                self._kept[name] = _Kept(_bytes(self.folder, name), frame.sureness if frame else UNSURE_BELOW)

    def _make_room(self, needed: int) -> bool:
        """Remove frames until one more of this size fits; whether it does."""
        self._look()
        while self._kept and (
            len(self._kept) >= self.most_frames
            or sum(each.bytes for each in self._kept.values()) + needed + _JSON_BYTES > self.most_bytes
        ):
            ids = sorted(self._kept)
            older = ids[: (len(ids) + 1) // 2]
            surest = max(older, key=lambda name: self._kept[name].sureness)  # of equals the oldest
            remove_frame(self.folder, surest)
            del self._kept[surest]
        return needed + _JSON_BYTES <= self.most_bytes


_JSON_BYTES = 4096
"""What the description of a frame takes, generously."""


@dataclass(frozen=True)
class _Kept:
    bytes: int
    sureness: float


class _Scenes:
    """Features of the frames kept last.

    Those that were removed since are among them: who discards a frame wants no other like it.
    """

    def __init__(self) -> None:
        self._rows: Array = np.zeros((0, 0), np.float32)
        self._tags: list[str] = []
        self._next = 0

    def has(self, features: Array, tag: str) -> bool:
        """Whether there is nearly the same scene with this tag."""
        if self._rows.shape[1] != len(features):
            return False
        near = self._rows[: len(self._tags)] @ features >= SAME_SCENE
        return any(self._tags[i] == tag for i in np.flatnonzero(near))

    def add(self, features: Array, tag: str) -> None:
        """Remember a scene, in place of the oldest if there are too many."""
        if self._rows.shape[1] != len(features):  # the first one, or another backbone
            self._rows, self._tags = np.zeros((_REMEMBERED, len(features)), np.float32), []
            self._next = 0
        self._rows[self._next] = features
        if self._next < len(self._tags):
            self._tags[self._next] = tag
        else:
            self._tags.append(tag)
        self._next = (self._next + 1) % _REMEMBERED


def _stream(seen: Seen) -> tuple[str, str | None, str]:
    return seen.source, seen.region, seen.prompt


def _jpeg(picture: Image.Image) -> bytes:
    """The picture as a file, at most `LONGEST` pixels wide and high."""
    if max(picture.size) > LONGEST:
        picture = picture.copy()
        picture.thumbnail((LONGEST, LONGEST), reducing_gap=2.0)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _bytes(folder: Path, name: str) -> int:
    total = 0
    for suffix in (".jpg", ".json"):
        with contextlib.suppress(OSError):
            total += (folder / f"{name}{suffix}").stat().st_size
    return total


def _remove_leftovers(folder: Path) -> None:
    """Remove what a process left that died between two files of a frame, or within one."""
    ids = set(frame_ids(folder))
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            partial = path.name.startswith(".") and path.name.endswith(".part")
            alone = path.suffix in (".jpg", ".json") and is_frame_id(path.stem) and path.stem not in ids
            if (partial or alone) and time.time() - path.stat().st_mtime > _LEFTOVER:
                path.unlink(missing_ok=True)
