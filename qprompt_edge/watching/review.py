"""The review queue on disk: frames for a person to look at, as `watch` keeps and `serve` shows them.

A frame is two files, `<id>.jpg` and then `<id>.json`, each written atomically; it is there when both are. Who
removes it removes the JSON first. So a reader and a writer need no lock: a reader that loses the race finds a
frame less. Everything in the folder counts as foreign: what is damaged is passed over.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.watching.answers import NONE_OF_THESE, rfc3339, seconds
from qprompt_edge.watching.selection import best_first
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import write_atomic

UNSURE_BELOW = 0.5
"""Of a frame to review, the two likeliest classes are nearer to each other than this, in probability."""
UNSURE = "unsure"
"""A reason; the other one is `NONE_OF_THESE`."""

_VERSION = 1
_ID = re.compile(r"\d{8}T\d{9}Z-[0-9a-f]{8}")
_MOST_JSON = 1 << 20


@dataclass(frozen=True, eq=False)
class ReviewFrame:
    """A frame of the queue, without its picture.

    Attributes:
        id: Its name in the folder: the time it was seen at, and part of a hash.
        time: When it was seen, in seconds since 1970.
        source: The camera, stream or folder that it came from, as `watch` names it.
        region: Name of the region of interest; None for the whole frame.
        prompt: Name of the prompt that was unsure of it.
        predictions: Labels and probabilities, best first.
        none_of_these: Whether it looked like none of the classes; None if that was not asked.
        features: float32 [E], length 1; None if it has none that can be compared with other photos'.
        space: What these features are comparable with: the backbone's fingerprint as 32 hex digits, or
            another word for features that are the prompt's own.
    """

    id: str
    time: float
    source: str
    region: str | None
    prompt: str
    predictions: tuple[tuple[str, float], ...]
    none_of_these: bool | None = None
    features: Array | None = None
    space: str = ""

    @property
    def margin(self) -> float:
        """Probability of the likeliest class less that of the next, 0 to 1; 1 with a single class."""
        return margin(self.predictions)

    @property
    def reason(self) -> str:
        """Why it is here: `NONE_OF_THESE` or `UNSURE`."""
        return NONE_OF_THESE if self.none_of_these else UNSURE

    @property
    def sureness(self) -> float:
        """The margin, at most `UNSURE_BELOW`: beyond it, how sure a prompt was of no class says little."""
        return min(self.margin, UNSURE_BELOW)

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        return {
            "version": _VERSION,
            "id": self.id,
            "time": rfc3339(self.time),
            "source": self.source,
            "region": self.region,
            "prompt": self.prompt,
            "predictions": [{"label": label, "probability": value} for label, value in self.predictions],
            "none_of_these": self.none_of_these,
            "margin": self.margin,
            "reason": self.reason,
            "space": self.space,
            "features": None if self.features is None else _packed(self.features),
        }


def margin(predictions: Sequence[tuple[str, float]]) -> float:
    """Probability of the likeliest class less that of the next; 1 where there is no next."""
    return predictions[0][1] - predictions[1][1] if len(predictions) > 1 else 1.0


def new_id(moment: float, digest: str) -> str:
    """The id of a frame seen at a time (seconds since 1970), with a hash in hex of all that it is."""
    when = datetime.fromtimestamp(moment, timezone.utc)
    return f"{when:%Y%m%dT%H%M%S}{when.microsecond // 1000:03d}Z-{digest[:8]}"


def is_frame_id(name: str) -> bool:
    """Whether a name can be a frame's: it leads out of no folder."""
    return _ID.fullmatch(name) is not None


def list_frames(folder: Path) -> list[ReviewFrame]:
    """The frames of a queue, oldest first; none where there is no such folder.

    What is damaged, half written or just being removed is passed over.
    """
    found = (read_frame(folder, name) for name in frame_ids(folder))
    return [frame for frame in found if frame is not None]


def frame_ids(folder: Path) -> list[str]:
    """Ids of the frames in a queue, oldest first."""
    try:
        names = set(os.listdir(folder))  # noqa: PTH208 -- names alone, at a tenth of the cost
    except OSError:
        return []
    ids = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(name for name in ids if is_frame_id(name) and f"{name}.jpg" in names)


def read_frame(folder: Path, frame_id: str) -> ReviewFrame | None:
    """One frame; None if there is no such one (any more), or its file is damaged."""
    if frame_path(folder, frame_id) is None:
        return None
    try:
        path = folder / f"{frame_id}.json"
        with path.open("rb") as file:
            content = json.loads(file.read(_MOST_JSON))
        return _decoded(frame_id, content) if content["version"] == _VERSION else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None


def frame_path(folder: Path, frame_id: str) -> Path | None:
    """The picture of a frame, a JPEG; None if the id is none, or there is no such frame.

    It may be gone a moment later: who opens it expects that.
    """
    if not is_frame_id(frame_id):
        return None
    path = folder / f"{frame_id}.jpg"
    with contextlib.suppress(OSError):
        if path.is_file() and not path.is_symlink():
            return path
    return None


def remove_frame(folder: Path, frame_id: str) -> bool:
    """Take a frame out of the queue.

    Returns:
        Whether it was there: of two that remove the same frame, one gets True.

    Raises:
        OutputError: It cannot be removed (a read-only disk, a foreign folder).
    """
    if not is_frame_id(frame_id):
        return False
    there = False
    try:
        with contextlib.suppress(FileNotFoundError):
            (folder / f"{frame_id}.json").unlink()
            there = True
        (folder / f"{frame_id}.jpg").unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {folder / frame_id}: {error.strerror or error}") from error
    return there


def write_frame(folder: Path, frame: ReviewFrame, jpeg: bytes) -> int:
    """Put a frame into the queue; the bytes that it takes.

    Raises:
        OutputError: It cannot be written; then nothing of it is left, or a picture alone, which no reader
            sees.
    """
    description = json.dumps(frame.to_json(), ensure_ascii=False, allow_nan=False).encode()
    write_atomic(folder / f"{frame.id}.jpg", jpeg)
    write_atomic(folder / f"{frame.id}.json", description)
    return len(jpeg) + len(description)


def label_first(
    frames: Sequence[ReviewFrame], known: Array, space: str, counts: Mapping[str, int] | None = None
) -> list[ReviewFrame]:
    """The same frames, the one whose label is worth most first.

    Args:
        frames: A queue, of one prompt.
        known: float32 [M,E], features of the labelled photos, rows of length 1; M may be 0.
        space: What these are comparable with: the backbone's fingerprint in hex. Frames with other features
            come last.
        counts: How many photos each class has; None counts all classes alike.
    """
    alike = [frame.space == space and _fits(frame.features, known) for frame in frames]
    comparable = [frame for frame, yes in zip(frames, alike, strict=True) if yes]
    classes = sorted({label for frame in comparable for label, _ in frame.predictions})
    chances = np.zeros((len(comparable), len(classes)), np.float32)
    for row, frame in zip(chances, comparable, strict=True):
        for label, value in frame.predictions:
            row[classes.index(label)] = value
    order = best_first(
        np.array([frame.sureness for frame in comparable], np.float32),
        chances,
        np.array([frame.features for frame in comparable], np.float32).reshape(
            len(comparable), known.shape[1]
        ),
        known,
        np.array([(counts or {}).get(label, 0) for label in classes], np.int64),
    )
    rest = [frame for frame, yes in zip(frames, alike, strict=True) if not yes]
    return [comparable[i] for i in order] + sorted(rest, key=lambda frame: frame.sureness)


def _fits(features: Array | None, known: Array) -> bool:
    return features is not None and len(features) == known.shape[1]


def _packed(features: Array) -> str:
    """Half precision, little-endian, base64: 700 characters for 256 numbers."""
    return base64.b64encode(features.astype("<f2").tobytes()).decode("ascii")


def _unpacked(text: str) -> Array:
    """Unit features of `_packed`.

    Raises:
        ValueError: They are none.
    """
    row: NDArray[np.float32] = np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)
    length = float(np.linalg.norm(row))
    if not 0.9 < length < 1.1:
        raise ValueError("the features are not of length 1")
    return row / np.float32(length)


def _decoded(frame_id: str, content: dict[str, Any]) -> ReviewFrame:
    """A frame from its file.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: It is damaged.
    """
    predictions = tuple((str(each["label"]), float(each["probability"])) for each in content["predictions"])
    if not predictions or not all(0 <= value <= 1 for _, value in predictions):
        raise ValueError("no predictions, or no probabilities")
    region, refused = content["region"], content["none_of_these"]
    if refused not in (True, False, None):
        raise ValueError("none_of_these is neither true, false nor null")
    features = content["features"]
    return ReviewFrame(
        id=frame_id,
        time=seconds(content["time"]),
        source=str(content["source"]),
        region=None if region is None else str(region),
        prompt=str(content["prompt"]),
        predictions=predictions,
        none_of_these=refused,
        features=None if features is None else _unpacked(features),
        space=str(content["space"]),
    )
