"""Pieces about classes: how good each is, what is taken for what, and which need photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.evaluation.intervals import wilson
from qprompt_edge.reporting import words
from qprompt_edge.reporting.markup import bullets, element, named, shown, table
from qprompt_edge.reporting.measured import bar

MATRIX_CLASSES = 20
"""With more classes a matrix cannot be read any more, and the most frequent confusions are listed instead."""

FEW_PHOTOS, OFTEN_RIGHT = 10, 0.75
"""A class with fewer photos to learn from, or with a smaller share of right answers, needs photos."""

_MOST_ROWS = 30
_MOST_NAMES = 100
_SHORT_LIST = 12  # with at most so many classes, those without a mistake stand in the table too
_TAKEN_FOR = 3
_COLUMN_LETTERS = 24  # of a name at the edge of a matrix
_NAME_LETTERS = 60
_LEVELS = 3

Counts = NDArray[np.int64]


def per_class(labels: Sequence[str], counts: Counts) -> str:
    """The accuracy of each class, the lowest first, and what its photos were taken for.

    Args:
        labels: The C classes.
        counts: int64 [C,C]; rows are true classes, columns predicted ones.
    """
    photos, right = counts.sum(axis=1), counts.diagonal()
    judged = np.flatnonzero(photos)
    ranked = judged[np.argsort(right[judged] / photos[judged], kind="stable")].tolist()
    listed = [i for i in ranked if len(labels) <= _SHORT_LIST or right[i] < photos[i]]
    rows = []
    for i in listed[:_MOST_ROWS]:
        share = right[i] / photos[i]
        line = bar(share, wilson(share, photos[i]))
        of = words.OF.format(part=right[i], all=photos[i])
        rows.append((f"{named(labels[i])}{line}", of + _taken_for(labels, counts[i], i)))
    parts = []
    if rows:
        columns = [(name, "") for name in words.PER_CLASS_COLUMNS]
        parts.append(table(words.PER_CLASS_CAPTION, columns, rows))
        parts += _more(len(listed) - len(rows))
    perfect = [labels[i] for i in judged.tolist() if right[i] == photos[i]]
    if perfect and len(labels) > _SHORT_LIST:
        parts.append(element("p", words.ALL_RIGHT.format(names=_names(perfect))))
    unjudged = [label for label, count in zip(labels, photos, strict=True) if count == 0]
    if unjudged:
        parts.append(element("p", words.NO_PHOTOS.format(names=_names(unjudged))))
    return "".join(parts)


def confusion(labels: Sequence[str], counts: Counts) -> str:
    """What is taken for what.

    Up to `MATRIX_CLASSES` classes have a matrix. With more, the most frequent confusions are listed.

    Args:
        labels: The C classes.
        counts: int64 [C,C]; rows are true classes, columns predicted ones.
    """
    return matrix(labels, counts) if len(labels) <= MATRIX_CLASSES else confused_pairs(labels, counts)


def matrix(labels: Sequence[str], counts: Counts) -> str:
    """The whole confusion matrix as a table that scrolls sideways where it is wider than the page."""
    heads = "".join(f'<th scope="col"><span>{shown(label, _COLUMN_LETTERS)}</span></th>' for label in labels)
    rows = []
    for i, label in enumerate(labels):
        total = max(1, int(counts[i].sum()))
        cells = "".join(
            f'<td class="{_shade(int(count), total, i == k)}">{count}</td>'
            for k, count in enumerate(counts[i])
        )
        rows.append(f'<tr><th scope="row">{shown(label, _COLUMN_LETTERS)}</th>{cells}</tr>')
    head = f'<thead><tr><th scope="col">{words.MATRIX_CORNER}</th>{heads}</tr></thead>'
    inside = f"<caption>{words.MATRIX_CAPTION}</caption>{head}<tbody>{''.join(rows)}</tbody>"
    whole = element("table", inside, class_="r-table r-matrix")
    return element("div", whole, class_="r-scroll", tabindex="0", role="region", aria_label=words.CONFUSION)


def confused_pairs(labels: Sequence[str], counts: Counts) -> str:
    """The most frequent confusions, as a table."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    true, predicted = np.nonzero(wrong)
    if len(true) == 0:
        return element("p", words.NO_CONFUSION)
    order = np.argsort(-wrong[true, predicted], kind="stable")[:_MOST_ROWS]
    photos = counts.sum(axis=1)
    rows = [
        (named(labels[i]), named(labels[k]), words.OF.format(part=wrong[i, k], all=photos[i]))
        for i, k in zip(true[order], predicted[order], strict=True)
    ]
    caption = words.PAIRS_CAPTION.format(shown=len(rows), all=len(true))
    return table(caption, list(zip(words.PAIRS_COLUMNS, ("", "", "r-number"), strict=True)), rows)


def needing_photos(labels: Sequence[str], trained: Sequence[int], counts: Counts | None) -> str:
    """Classes with few photos, without one to judge by, or with many mistakes; a line for each reason.

    Args:
        labels: The C classes.
        trained: Photos of each that the prompt was tuned on; empty if that is not known.
        counts: Their confusion matrix, int64 [C,C]; None if nothing was judged.
    """
    few = sorted((count, i) for i, count in enumerate(trained) if count < FEW_PHOTOS)
    found = []
    if few:
        names = _names([labels[i] for _, i in few], [str(count) for count, _ in few])
        found.append(words.FEW.format(names=names))
    if counts is not None:
        photos, right = counts.sum(axis=1).tolist(), counts.diagonal().tolist()
        judged = [i for i in range(len(labels)) if photos[i]]
        low = sorted((right[i] / photos[i], i) for i in judged if right[i] < OFTEN_RIGHT * photos[i])
        if low:
            of = [words.OF.format(part=right[i], all=photos[i]) for _, i in low]
            found.append(words.OFTEN_WRONG.format(names=_names([labels[i] for _, i in low], of)))
        if len(judged) < len(labels):
            unjudged = [label for label, count in zip(labels, photos, strict=True) if count == 0]
            found.append(words.UNJUDGED.format(names=_names(unjudged)))
    return bullets(found) if found else element("p", words.NEEDS_NOTHING)


def _more(count: int) -> list[str]:
    return [element("p", words.MORE_ROWS.format(count=count))] if count > 0 else []


def _taken_for(labels: Sequence[str], row: Counts, own: int) -> str:
    others = [k for k in np.argsort(-row, kind="stable")[: _TAKEN_FOR + 1] if k != own and row[k]]
    names = ", ".join(f"{named(labels[k], _NAME_LETTERS)} {row[k]}" for k in others[:_TAKEN_FOR])
    return element("small", words.OTHERS.format(names=names)) if names else ""


def _names(labels: Sequence[str], details: Sequence[str] = ()) -> str:
    """Names in a line, each with its detail in brackets if there are any."""
    names = [named(label, _NAME_LETTERS) for label in labels[:_MOST_NAMES]]
    if details:
        names = [f"{name} ({detail})" for name, detail in zip(names, details, strict=False)]
    left = len(labels) - _MOST_NAMES
    return ", ".join([*names, words.AND_MORE.format(count=left)] if left > 0 else names)


def _shade(count: int, total: int, right: bool) -> str:
    """The ground of a cell, by its share of the row."""
    if count == 0:
        return "r-zero"
    level = min(_LEVELS, 1 + _LEVELS * count // total)
    return f"r-{'good' if right else 'bad'}-{level}"
