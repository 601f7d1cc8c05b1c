"""The report of an experiment: a Markdown document, everything again as JSON, and plots if asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qprompt_edge.reproduction.bootstrap import Resampling
from qprompt_edge.reproduction.claim_list import CLAIMS
from qprompt_edge.reproduction.claims import Verdict, judge
from qprompt_edge.reproduction.jobs import Outcome
from qprompt_edge.reproduction.plots import write_plots
from qprompt_edge.reproduction.store import Store
from qprompt_edge.reproduction.summary import summarise
from qprompt_edge.reproduction.tables import markdown
from qprompt_runtime.files import write_atomic

RESULTS_FILE = "results.json"
_SAME_PHOTOS = Resampling(joint_photos=True)  # test splits are the same for every seed


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: The Markdown document.
        tables: Its tables of results, without claims and plots.
        verdicts: On the claims.
        outcomes: What it is about.
        summary: Means, standard deviations and verdicts as JSON can hold them; also in `results.json` in the
            store's folder.
    """

    path: Path
    tables: str
    verdicts: tuple[Verdict, ...]
    outcomes: tuple[Outcome, ...]
    summary: dict[str, Any]


def write_report(store: Store, path: Path, *, plots: bool = False) -> Report:
    """Write what all outcomes of a store say together.

    Args:
        store: Holds at least one outcome.
        path: The Markdown document; plots lie in a folder of its name without the suffix.
        plots: Whether to draw any.

    Raises:
        OutputError: It cannot be written, or plots are asked for and matplotlib is not installed.
        WorkDirError: A file of the store is damaged.
    """
    outcomes = store.outcomes()
    verdicts = judge(outcomes, CLAIMS, _SAME_PHOTOS)
    run = _run(store.facts, outcomes)
    text = markdown(outcomes, verdicts, run)
    if plots:
        drawn = write_plots(outcomes, verdicts, path.with_suffix(""))
        links = "\n\n".join(f"![{file.stem}]({path.stem}/{file.name})" for file in drawn)
        text = f"{text.rstrip()}\n\n## Plots\n\n{links}\n"
    write_atomic(path, text.encode())
    summary = {
        "experiment": store.facts,
        "results": [result.to_json() for result in summarise(outcomes)],
        "claims": [verdict.to_json() for verdict in verdicts],
    }
    write_atomic(store.folder / RESULTS_FILE, (json.dumps(summary, indent=2) + "\n").encode())
    return Report(path, markdown(outcomes, run=run), tuple(verdicts), tuple(outcomes), summary)


def _sets_of(outcome: Outcome) -> list[str]:
    return [outcome.job.source, *(target.dataset for target in outcome.job.targets)]


def _run(facts: Mapping[str, Any], outcomes: list[Outcome]) -> dict[str, object]:
    """The head of the document: what was run."""
    backbone = facts["backbone"]
    training = ", ".join(f"{name} {value}" for name, value in facts["training"].items())
    return {
        "backbone": f"{backbone['name']} ({backbone['fingerprint'][:8]})",
        "data sets": ", ".join(dict.fromkeys(name for outcome in outcomes for name in _sets_of(outcome))),
        "seeds": ", ".join(map(str, sorted({outcome.job.seed for outcome in outcomes}))),
        "training": training or "each method's own schedule",
        "jobs": f"{len(outcomes)}, {sum(outcome.seconds for outcome in outcomes) / 60:.0f} core minutes",
        "version": version("qprompt-edge"),
    }
