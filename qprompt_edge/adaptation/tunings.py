"""What a prompt was tuned on, kept in the user's cache: which photos, by their content, had which label.

The prompt file does not hold its photos. If they were encoded on this machine, their features are still in
the feature cache. This record says which of them they were, so that `update` can tune on old and new photos
together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.cache import Unkept, cache_folder
from qprompt_edge.data.feature_cache import KEY_BYTES, Entry, FeatureCache
from qprompt_edge.tuning.config import TrainingConfig
from qprompt_edge.tuning.quantizer import Clustering
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.prompt_file import PromptFile

_VERSION = 1


@dataclass(frozen=True)
class TuningRecord:
    """Photos of a tuning, and how it was done.

    Attributes:
        keys: Content hashes of the photos, 16 bytes each, in the order of the tuning.
        labels: The label of each.
        views: Augmented views beside the plain one.
        training: How the prompt was tuned.
    """

    keys: tuple[bytes, ...]
    labels: tuple[str, ...]
    views: int
    training: TrainingConfig

    def known(self) -> dict[bytes, set[str]]:
        """The labels that each photo was tuned on with."""
        found: dict[bytes, set[str]] = {}
        for key, label in zip(self.keys, self.labels, strict=True):
            found.setdefault(key, set()).add(label)
        return found

    def without(self, labels: Sequence[str]) -> TuningRecord:
        """The record without some classes."""
        kept = [pair for pair in zip(self.keys, self.labels, strict=True) if pair[1] not in labels]
        return TuningRecord(
            tuple(key for key, _ in kept), tuple(label for _, label in kept), self.views, self.training
        )

    def joined(self, keys: Sequence[bytes], labels: Sequence[str]) -> TuningRecord:
        """The record with further photos."""
        return TuningRecord((*self.keys, *keys), (*self.labels, *labels), self.views, self.training)

    def entries(self, prompt: PromptFile, cache: FeatureCache) -> list[Entry] | None:
        """The photos' entries in the feature cache.

        None if one is missing, or if the prompt was tuned on more photos than these.
        """
        counts = tuple(self.labels.count(name.label) for name in prompt.classes)
        if counts != prompt.photos or sum(counts) != len(self.keys):
            return None
        found = [cache.get(key) for key in self.keys]
        return None if any(entry is None for entry in found) else [entry for entry in found if entry]


def keep_record(prompt: PromptFile, record: TuningRecord, unkept: Unkept) -> None:
    """Write a prompt's record.

    Args:
        prompt: The prompt.
        record: What it was tuned on.
        unkept: Told where the cache cannot be written; then none is kept.
    """
    path = _path(prompt)
    if path is None:
        return
    labels = sorted(set(record.labels))
    content = {
        "version": _VERSION,
        "labels": labels,
        "photos": [
            [key.hex(), labels.index(label)] for key, label in zip(record.keys, record.labels, strict=True)
        ],
        "views": record.views,
        "training": asdict(record.training),
    }
    try:
        write_atomic(path, json.dumps(content).encode())
    except OutputError as error:
        unkept(error)


def read_record(prompt: PromptFile) -> TuningRecord | None:
    """The record of a prompt, or None: it was tuned elsewhere, or the cache was emptied."""
    path = _path(prompt)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _decoded(content) if content["version"] == _VERSION else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):  # what cannot be read counts as not there
        return None


def _decoded(content: dict[str, Any]) -> TuningRecord:
    training = dict(content["training"])
    training["clustering"] = Clustering(**training["clustering"])
    keys = tuple(bytes.fromhex(key) for key, _ in content["photos"])
    if any(len(key) != KEY_BYTES for key in keys):
        raise ValueError("a key has another length")
    labels = tuple(str(content["labels"][place]) for _, place in content["photos"])
    return TuningRecord(keys, labels, int(content["views"]), TrainingConfig(**training))


def keys_of(rows: NDArray[np.uint8]) -> tuple[bytes, ...]:
    """Content hashes [N,16] as bytes."""
    return tuple(row.tobytes() for row in rows)


def _path(prompt: PromptFile) -> Path | None:
    return cache_folder("tunings", f"{hashlib.sha256(prompt.to_bytes()).hexdigest()}.json")
