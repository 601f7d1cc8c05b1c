"""What a classifier is worth, as the pieces show it: counts and shares with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qprompt_edge.evaluation.intervals import wilson
from qprompt_edge.evaluation.metrics import Scores
from qprompt_edge.evaluation.paired import Comparison
from qprompt_edge.reporting import words
from qprompt_edge.reporting.markup import element, shown, table
from qprompt_runtime.text import counted, percent

_BAR = 200  # width of a bar in its own units
_LEAST_P = 0.001


@dataclass(frozen=True)
class Measured:
    """How one classifier did.

    Attributes:
        name: What it is called.
        about: What it is, in a few words.
        right: Photos that were right.
        photos: Photos in all, at least 1.
        class_mean: Mean accuracy over classes, from 0 to 1.
    """

    name: str
    about: str
    right: int
    photos: int
    class_mean: float

    @staticmethod
    def of(scores: Scores, name: str, about: str) -> Measured:
        """From scores."""
        return Measured(name, about, int(scores.right.sum()), scores.n, scores.class_mean)


def verdict(change: Comparison, before: Measured, after: Measured, photos: str) -> str:
    """Whether the prompt helps, in plain words, with its interval.

    Args:
        change: The paired comparison.
        before: Without the prompt.
        after: With it.
        photos: Which photos, such as `48 photos that it was not tuned on`.
    """
    kinds = {
        True: ("r-helped", words.HELPED, ""),
        False: ("r-worse", words.WORSE, words.MAY_HELP),
        None: ("r-unsure", words.UNSURE, words.CHANCE),
    }
    kind, headline, advice = kinds[change.helped]
    figures = "".join(
        f"<div><dt>{name}</dt><dd>{percent(it.right / it.photos)}</dd></div>"
        for name, it in ((words.WITHOUT, before), (words.WITH, after))
    )
    low, high = (f"{100 * bound:+.1f}" for bound in change.interval)
    parts = [
        element("p", headline, class_="r-headline"),
        element("dl", figures, class_="r-figures"),
        element("p", words.FOUND.format(photos=shown(photos), after=after.right, before=before.right)),
        element(
            "p",
            words.DIFFERENCE.format(
                difference=f"{100 * change.difference:+.1f}", low=low, high=high, p=_p_value(change.p)
            ),
        ),
    ]
    parts += [element("p", advice)] if advice else []
    return element("div", "".join(parts), class_=f"r-verdict {kind}")


def no_verdict() -> str:
    """What stands in the place of the verdict where nothing was held out."""
    inside = element("p", words.NOT_JUDGED, class_="r-headline") + element("p", words.NOTHING_HELD_OUT)
    return element("div", inside, class_="r-verdict")


def bar(share: float, interval: tuple[float, float]) -> str:
    """A share from 0 to 1 as a dot on a line, with its interval. The numbers must stand beside it."""
    low, high = (_BAR * bound for bound in interval)
    dot = 4 + (_BAR - 8) * share
    return (
        f'<svg class="r-bar" viewBox="0 0 {_BAR} 10" aria-hidden="true">'
        f'<rect class="r-track" x="0" y="4" width="{_BAR}" height="2" rx="1"/>'
        f'<rect class="r-range" x="{low:.1f}" y="2" width="{high - low:.1f}" height="6" rx="3"/>'
        f'<circle class="r-dot" cx="{dot:.1f}" cy="5" r="4"/></svg>'
    )


def accuracies(rows: Sequence[Measured]) -> str:
    """Classifiers on the same photos, each with its Wilson interval, as a table with bars."""
    cells = []
    for it in rows:
        share = it.right / it.photos
        interval = wilson(share, it.photos)
        cells.append(
            (
                f"{shown(it.name)}<small>{shown(it.about)}</small>{bar(share, interval)}",
                f"{percent(share)}<small>{interval_text(interval)}</small>",
                percent(it.class_mean),
            )
        )
    first, *others = words.ACCURACY_COLUMNS
    columns = [(first, ""), *((name, "r-number") for name in others)]
    caption = words.ACCURACY_CAPTION.format(photos=counted(rows[0].photos, "photo"))
    return table(caption, columns, cells)


def _p_value(p: float) -> str:
    return f"= {p:.2g}" if p >= _LEAST_P else f"below {_LEAST_P}"


def interval_text(interval: tuple[float, float]) -> str:
    """`86.1 to 99.7%`."""
    low, high = interval
    return f"{100 * low:.1f} to {percent(high)}"
