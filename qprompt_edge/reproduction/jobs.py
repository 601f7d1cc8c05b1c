"""Jobs, the units of an experiment, and their outcomes.

A job is a method on one draw of training photos. Its outcome keeps which test photos were right, not only how
many: differences between methods are judged photo by photo (`bootstrap`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BASE, NEW, ALL = "base", "new", "all"
"""Parts of a data set's classes: the first half, the others, or every one."""
BASE_OF_ALL, NEW_OF_ALL = "base of all", "new of all"
"""The photos of one half, judged among the names of both."""


@dataclass(frozen=True)
class Target:
    """What a prompt is judged on: a part of the classes of a data set, on its test photos."""

    dataset: str
    part: str = ALL

    def __str__(self) -> str:
        return f"{self.dataset}/{self.part}"


@dataclass(frozen=True)
class Job:
    """A method on one draw of training photos.

    Attributes:
        protocol: `base2new`, `generalised`, `few-shot`, `cross-dataset` or `domain`.
        method: A name in `recipes.RECIPES`.
        source: The data set that is trained on.
        part: Which of its classes.
        shots: Photos of each class.
        seed: Of the draw and of the training.
        targets: What the result is judged on.
    """

    protocol: str
    method: str
    source: str
    part: str
    shots: int
    seed: int
    targets: tuple[Target, ...]

    @property
    def id(self) -> str:
        """A name for files: the same job has the same one on every machine."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.protocol}-{self.source}-{self.method}-{self.shots}-{self.seed}-{digest[:8]}"


@dataclass(frozen=True)
class Outcome:
    """What a job gave.

    Attributes:
        job: The job.
        right: For each target that the method can be judged on, bool [N]: which of its test photos were
            right. A target is absent where the method has nothing to say (a linear probe about new classes).
        payload_bytes: What was learned, as it is stored: indices and codebooks of a prompt, the arrays of
            other methods.
        file_bytes: The whole prompt file; None for methods that are not prompts.
        steps: Training steps.
        seconds: Training and judging.
    """

    job: Job
    right: Mapping[Target, NDArray[np.bool_]]
    payload_bytes: int
    file_bytes: int | None
    steps: int
    seconds: float

    def top1(self, target: Target) -> float:
        """The share of a target's photos that were right, from 0 to 1."""
        return float(self.right[target].mean())

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it; bits are packed and written in base 64."""
        return {
            "job": asdict(self.job),
            "right": [
                {
                    "dataset": target.dataset,
                    "part": target.part,
                    "photos": len(bits),
                    "top1": float(bits.mean()),
                    "bits": base64.b64encode(np.packbits(bits).tobytes()).decode(),
                }
                for target, bits in self.right.items()
            ],
            "payload_bytes": self.payload_bytes,
            "file_bytes": self.file_bytes,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        """Read what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        job = dict(value["job"])
        job["targets"] = tuple(Target(**target) for target in job["targets"])
        right = {
            Target(item["dataset"], item["part"]): np.unpackbits(
                np.frombuffer(base64.b64decode(item["bits"], validate=True), np.uint8), count=item["photos"]
            ).astype(bool)
            for item in value["right"]
        }
        return cls(
            Job(**job), right, value["payload_bytes"], value["file_bytes"], value["steps"], value["seconds"]
        )
