"""The answer of a classifier for one photo."""

from __future__ import annotations

from dataclasses import dataclass

from qprompt_runtime.text import first_few, percent


@dataclass(frozen=True, repr=False)
class Prediction:
    """What a photo shows, best first.

    Attributes:
        labels: Labels of the K likeliest classes.
        probabilities: Their probabilities; over all classes they sum to 1.
        none_of_these: Whether the photo looks like none of the classes; None if no accept share is set.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    none_of_these: bool | None = None

    def __repr__(self) -> str:
        named = zip(self.labels, self.probabilities, strict=True)
        shown = first_few([f"{label} {percent(value)}" for label, value in named])
        return f"<Prediction {'none of these; ' if self.none_of_these else ''}{shown}>"

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.labels[0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.probabilities[0]
