"""The review queue of `watch`, the frame whose label is worth most first; runs in the child process."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from qprompt_edge.cache import Unkept
from qprompt_edge.data.feature_cache import FeatureCache, content_key
from qprompt_edge.data.features import user_features
from qprompt_edge.watching.answers import rfc3339
from qprompt_edge.watching.review import ReviewFrame, label_first, list_frames
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone

_KNOWN = 1_000
"""Labelled photos that frames are compared with, evenly over the task."""

_Look = tuple[int, int, int]


class QueueOrder:
    """Puts a queue in order; what was read of labelled photos is remembered.

    Args:
        backbone: The frozen model.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._rows: dict[_Look, Array | None] = {}

    def listed(self, order: dict[str, Any]) -> dict[str, Any]:
        """The frames of a queue, the one worth most first.

        Args:
            order: `queue` (a folder), `photos` (files of labelled ones), `counts` (photos by class), `limit`.

        Returns:
            `total` and `items`, as the interface gives them.
        """
        frames = list_frames(Path(order["queue"]))
        known, space = self._known(order["photos"]), self._backbone.manifest.fingerprint
        ordered = label_first(frames, known, space, order["counts"])
        return {"total": len(frames), "items": [_shown(frame) for frame in ordered[: order["limit"]]]}

    def _known(self, photos: list[str]) -> Array:
        """float32 [M,E]: features of labelled photos, as far as they were encoded before."""
        chosen = photos[:: max(1, -(-len(photos) // _KNOWN))]
        cache = user_features(self._backbone, Unkept(lambda _line: None))
        rows: dict[_Look, Array | None] = {}
        for photo in chosen:
            with contextlib.suppress(OSError):
                status = Path(photo).stat()
                look = (status.st_ino, status.st_size, status.st_mtime_ns)
                found = self._rows.get(look)
                rows[look] = _features(cache, Path(photo)) if found is None else found
        self._rows = rows
        known = [row for row in rows.values() if row is not None]
        return np.array(known, np.float32).reshape(len(known), self._backbone.manifest.embed_dim)


def _features(cache: FeatureCache, photo: Path) -> Array | None:
    """A photo's features, if the cache has them."""
    with photo.open("rb") as file:
        entry = cache.get(content_key(file))
    return None if entry is None else entry.features[0]


def _shown(frame: ReviewFrame) -> dict[str, Any]:
    return {
        "id": frame.id,
        "time": rfc3339(frame.time),
        "source": frame.source,
        "predictions": [{"label": label, "probability": value} for label, value in frame.predictions],
        "none_of_these": frame.none_of_these,
        "reason": frame.reason,
    }
