"""Tables of outcomes, as one Markdown document.

Accuracies are per cent with one decimal, differences are in points. A mean stands only where a method has
every data set that the table has; standard deviations are over seeds.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from qprompt_edge.reproduction.claims import Verdict
from qprompt_edge.reproduction.jobs import BASE, NEW, Outcome
from qprompt_edge.reproduction.measures import (
    BASE_TO_NEW,
    BY_HALVES,
    CROSS_DATASET,
    DOMAIN,
    FEW_SHOT,
    GENERALISED,
    TOP1,
    H,
    Unit,
)
from qprompt_edge.reproduction.recipes import RECIPES
from qprompt_edge.reproduction.summary import Spread, Statistic, Summary, summarise

TITLES = {
    BASE_TO_NEW: "Base-to-new generalization",
    GENERALISED: "Base-to-new among all names",
    FEW_SHOT: "Few-shot learning",
    CROSS_DATASET: "Transfer to other data sets",
    DOMAIN: "Domain generalization",
}
"""Headings by protocol."""

_NOTHING = "-"
_WIDTH = 110
_SPECIAL = re.compile(r"([\\`*<>\[\]|])")


def markdown(
    outcomes: Iterable[Outcome], verdicts: Sequence[Verdict] = (), run: Mapping[str, object] | None = None
) -> str:
    """Write a report.

    Args:
        outcomes: Of any protocols and methods.
        verdicts: On claims, from `claims.judge`; none leaves their table out.
        run: What was run, for the header: backbone, data sets, seeds, command, version and so on, in that
            order. A list or tuple is written as its items.

    Returns:
        Markdown that ends in one newline; the same for the same arguments, whatever the outcomes' order.

    Raises:
        ValueError: Two outcomes are of the same run.
    """
    summaries = summarise(outcomes)
    blocks = ["# Results"]
    if run:
        blocks.append("\n".join(f"- {_text(key)}: {_setting(value)}" for key, value in run.items()))
    for protocol in dict.fromkeys(summary.protocol for summary in summaries):
        chosen = [summary for summary in summaries if summary.protocol == protocol]
        if protocol == FEW_SHOT:
            blocks += _few_shot(chosen)
            continue
        for shots in dict.fromkeys(summary.shots for summary in chosen):
            of_shots = [summary for summary in chosen if summary.shots == shots]
            blocks += _by_halves(of_shots) if protocol in BY_HALVES else _transfer(of_shots)
    return "\n\n".join([*blocks, *_claims(verdicts)]) + "\n"


def title(method: str) -> str:
    """A method's name for people; its own where `RECIPES` has none."""
    return RECIPES[method].title if method in RECIPES else method


def percent(fraction: float) -> str:
    """Per cent, without the sign."""
    return f"{100 * fraction:.1f}"


def points(difference: float) -> str:
    """A difference in points, with its sign; `-0.0` is a little below nothing."""
    return f"{100 * difference:+.1f}" if difference else "0.0"


def spread_text(statistic: Statistic | None) -> str:
    """Mean and, where there is one, standard deviation."""
    if statistic is None:
        return _NOTHING
    if statistic.standard_deviation is None:
        return percent(statistic.mean)
    return f"{percent(statistic.mean)} ± {percent(statistic.standard_deviation)}"


def complete(spread: Spread | None, units: Iterable[Unit]) -> Statistic | None:
    """The mean over units, if the method has all of them; else it would be a mean of something else."""
    return None if spread is None or not set(units) <= spread.units.keys() else spread.overall


def units_of(summaries: Iterable[Summary]) -> list[Unit]:
    """Every unit that one of the summaries has, sorted."""
    return sorted(
        {unit for summary in summaries for spread in summary.metrics.values() for unit in spread.units}
    )


def _by_halves(summaries: list[Summary]) -> list[str]:
    """Heading, explanation and table: `base / new / H` of each data set, then of all."""
    units = units_of(summaries)
    rows = []
    for summary in summaries:
        spreads = [summary.metrics.get(name) for name in (BASE, NEW, H)]
        cells = [" / ".join(_mean(spread, unit) for spread in spreads) for unit in units]
        mean = " / ".join(spread_text(complete(spread, units)) for spread in spreads)
        rows.append([title(summary.method), *cells, mean, _draws([summary]), _bytes(summary)])
    generalised = summaries[0].protocol == GENERALISED
    among = "Both are judged among the names of all classes. " if generalised else ""
    return [
        f"## {TITLES[summaries[0].protocol]}, {_shots(summaries[0].shots)}",
        _prose(
            "Accuracy in per cent: on base classes / on new classes / H, their harmonic mean.",
            f"{among}H is computed for each seed of each data set, then averaged.",
            "± is the standard deviation, over seeds, of the mean over data sets. Draws are seeds.",
            "Bytes are the size of what was learned, as it is stored.",
        ),
        _table(["method", *(unit.source for unit in units), "mean", "draws", "bytes"], rows),
    ]


def _few_shot(summaries: list[Summary]) -> list[str]:
    """Heading, and tables with a column for each number of shots: of the mean, then of each data set."""
    counts = sorted({summary.shots for summary in summaries})
    methods = dict.fromkeys(summary.method for summary in sorted(summaries, key=lambda s: _row(s.method)))
    found = {(summary.method, summary.shots): summary.metrics.get(TOP1) for summary in summaries}
    units = units_of(summaries)
    pairs = sorted({(unit.source, unit.target) for unit in units})
    draws = {k: _draws([summary for summary in summaries if summary.shots == k]) for k in counts}

    def table(cell: dict[tuple[str, int], str]) -> str:
        rows = [[title(name), *(cell.get((name, k), _NOTHING) for k in counts)] for name in methods]
        return _table(
            ["method", *(f"{_shots(k)}, {draws[k]} draw{'s' * (draws[k] != '1')}" for k in counts)], rows
        )

    means = {
        key: spread_text(complete(spread, [unit for unit in units if unit.shots == key[1]]))
        for key, spread in found.items()
    }
    blocks = [
        f"## {TITLES[FEW_SHOT]}",
        _prose(
            "Accuracy in per cent. ± is the standard deviation over seeds (draws); in the first table, that of",
            "the mean over data sets.",
        ),
        "### Mean over data sets",
        table(means),
    ]
    for source, target in pairs:
        cells = {
            key: spread_text(spread.units.get(Unit(source, target, key[1])))
            for key, spread in found.items()
            if spread is not None
        }
        blocks += [
            f"### {_text(_unit_name(Unit(source, target, 0), one_source=source == target))}",
            table(cells),
        ]
    return blocks


def _transfer(summaries: list[Summary]) -> list[str]:
    """Heading, explanation and table with a column for each target.

    The source itself is shown, but not averaged.
    """
    protocol, units = summaries[0].protocol, units_of(summaries)
    sources = sorted({unit.source for unit in units})
    units.sort(key=lambda unit: (unit.source, unit.target != unit.source, unit.target))
    rows = []
    for summary in summaries:
        spread = summary.metrics.get(TOP1)
        cells = [_mean(spread, unit) for unit in units]
        mean = spread_text(complete(spread, units))
        rows.append([title(summary.method), *cells, mean, _draws([summary]), _bytes(summary)])
    names = [_unit_name(unit, one_source=len(sources) == 1) for unit in units]
    return [
        f"## {TITLES.get(protocol, _text(protocol))}, {_shots(summaries[0].shots)}",
        _prose(
            f"Tuned on {', '.join(map(_text, sources))}. Accuracy on each target in per cent.",
            "The mean is over the targets other than the source; ± is its standard deviation over seeds (draws).",
        ),
        _table(["method", *names, "mean", "draws", "bytes"], rows),
    ]


def _claims(verdicts: Sequence[Verdict]) -> list[str]:
    """Heading, explanation and table; nothing without verdicts."""
    if not verdicts:
        return []
    rows = []
    for verdict in verdicts:
        difference, share = verdict.difference, verdict.bytes_share
        rows.append(
            [
                verdict.claim.text,
                f"{title(verdict.better)} - {title(verdict.claim.worse)}",
                verdict.claim.measure.metric,
                points(difference.value),
                f"{points(difference.low)} to {points(difference.high)}",
                points(verdict.claim.threshold),
                _NOTHING if share is None else f"{share:.3g}",
                str(difference.runs),
                verdict.verdict,
            ]
        )
    return [
        "## Claims",
        _prose(
            "Differences in points with their 95% intervals, from a paired bootstrap over seeds and photos.",
            "A claim holds if the whole interval lies above its threshold.",
            "It is refuted if the whole interval lies below, or if it claims a size that is exceeded.",
            "Otherwise it is undecided. Intervals are not corrected for the number of claims.",
        ),
        _table(
            [
                "claim",
                "compared",
                "figure",
                "difference",
                "95% interval",
                "threshold",
                "bytes, as a share",
                "pairs of runs",
                "verdict",
            ],
            rows,
            left=(0, 1, 2, 8),
        ),
    ]


def _prose(*sentences: str) -> str:
    """A wrapped paragraph."""
    return textwrap.fill(" ".join(sentences), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """A Markdown table; columns stand to the right but for those in `left`."""
    lines = [[_text(head) for head in heads], [":--" if i in left else "--:" for i in range(len(heads))]]
    lines += [[_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: object) -> str:
    """Plain text as Markdown on one line: nothing in it is markup, nor ends a table's cell."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _setting(value: object) -> str:
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)


def _row(method: str) -> tuple[int, str]:
    names = tuple(RECIPES)
    return (names.index(method) if method in RECIPES else len(names)), method


def _shots(count: int) -> str:
    return f"{count} shot{'' if count == 1 else 's'}"


def _unit_name(unit: Unit, one_source: bool) -> str:
    return unit.target if one_source else f"{unit.source} to {unit.target}"


def _mean(spread: Spread | None, unit: Unit) -> str:
    return percent(spread.units[unit].mean) if spread is not None and unit in spread.units else _NOTHING


def _draws(summaries: Iterable[Summary]) -> str:
    """How many draws (seeds) means are over: a number, or the least and the most."""
    spreads = [spread for summary in summaries for spread in summary.metrics.values()]
    seeds = [statistic.seeds for spread in spreads for statistic in spread.units.values()]
    return " to ".join(map(str, sorted({min(seeds), max(seeds)}))) if seeds else _NOTHING


def _bytes(summary: Summary) -> str:
    return f"{summary.payload_bytes:,.0f}"
