"""What outcomes are made into: verdicts on claims, summaries, tables, plots. All outcomes are synthetic."""

import json
import sys
from itertools import permutations
from pathlib import Path

import pytest
from outcomes import bits, halves, outcome

from qprompt_edge.reproduction.bootstrap import Difference
from qprompt_edge.reproduction.claim_list import CLAIMS
from qprompt_edge.reproduction.claims import (
    HOLDS,
    NOT_WORSE,
    REFUTED,
    UNDECIDED,
    Claim,
    decide,
    judge,
)
from qprompt_edge.reproduction.jobs import ALL, BASE, Outcome
from qprompt_edge.reproduction.measures import CROSS_DATASET, FEW_SHOT
from qprompt_edge.reproduction.plots import CLAIMS_PLOT, SHOTS_PLOT, SIZE_PLOT, check_plots, write_plots
from qprompt_edge.reproduction.recipes import RECIPES
from qprompt_edge.reproduction.summary import Statistic, summarise
from qprompt_edge.reproduction.tables import markdown, points
from qprompt_runtime.errors import OutputError

# claims


@pytest.mark.parametrize(
    ("kind", "margin", "low", "high", "verdict"),
    [
        ("greater", 0, 0.001, 0.02, HOLDS),
        ("greater", 0, 0.0, 0.0, UNDECIDED),
        ("greater", 0, -0.02, -0.001, REFUTED),
        ("greater", 0.02, 0.01, 0.05, UNDECIDED),
        ("greater", 0.02, 0.021, 0.05, HOLDS),
        ("greater", 0.02, 0.005, 0.019, REFUTED),
        (NOT_WORSE, 0.01, -0.009, 0.0, HOLDS),
        (NOT_WORSE, 0.01, -0.011, 0.03, UNDECIDED),
        (NOT_WORSE, 0.01, -0.03, -0.011, REFUTED),
        (NOT_WORSE, 0, 0.0, 0.0, HOLDS),
    ],
)
def test_verdicts(kind: str, margin: float, low: float, high: float, verdict: str) -> None:
    claim = Claim("", ("a",), "b", kind=kind, margin=margin)
    assert decide(claim, Difference((low + high) / 2, low, high, 3), None) == verdict


@pytest.mark.parametrize(("share", "verdict"), [(0.009, HOLDS), (0.01, REFUTED), (None, REFUTED)])
def test_a_claim_about_size_has_to_hold_too(share: float | None, verdict: str) -> None:
    claim = Claim("", ("a",), "b", kind=NOT_WORSE, bytes_under=0.01)
    assert decide(claim, Difference(0.1, 0.05, 0.2, 3), share) == verdict


def test_the_best_of_several_is_taken_and_its_bytes_are_compared() -> None:
    outcomes = [
        halves("a1", bits(60, 100), bits(60, 100), payload=2),
        halves("a2", bits(90, 100), bits(90, 100), payload=5),
        halves("b", bits(50, 100), bits(50, 100), payload=1000),
    ]
    (verdict,) = judge(outcomes, [Claim("", ("a1", "a2", "a4"), "b", kind=NOT_WORSE, bytes_under=0.01)])
    assert (verdict.better, verdict.bytes_share, verdict.verdict) == ("a2", 0.005, HOLDS)
    assert verdict.difference.value == pytest.approx(0.4)
    assert json.loads(json.dumps(verdict.to_json()))["difference"]["value"] == verdict.difference.value


def test_claims_name_known_methods_and_are_left_out_where_these_were_not_run() -> None:
    for claim in CLAIMS:
        assert {*claim.better, claim.worse} <= RECIPES.keys()
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)
    outcomes = [halves(name, bits(5, 9), bits(5, 9)) for name in ("coop", "noise-strong", "ptq-1")]
    assert {(v.better, v.claim.worse, v.verdict) for v in judge(outcomes, CLAIMS)} == {
        ("coop", "noise-strong", UNDECIDED)
    }


# summaries


def test_means_and_standard_deviations_by_hand() -> None:
    right = {"pets": (6, 8), "cars": (5, 3)}
    outcomes = [
        outcome("a", {BASE: bits(n, 10)}, source=source, seed=seed, payload=10 if source == "pets" else 30)
        for source, counts in right.items()
        for seed, n in enumerate(counts)
    ]
    (summary,) = summarise(outcomes)
    spread = summary.metrics[BASE]
    assert set(summary.metrics) == {BASE}
    units = {unit.source: statistic for unit, statistic in spread.units.items()}
    assert units["pets"] == Statistic(pytest.approx(0.7), pytest.approx(0.02**0.5), 2)
    # the mean over data sets is 0.55 with either seed
    assert spread.overall == Statistic(pytest.approx(0.55), pytest.approx(0), 2)
    assert (summary.payload_bytes, summary.file_bytes, summary.runs) == (20, None, 4)
    assert json.loads(json.dumps(summary.to_json()))["metrics"][BASE]["units"][0]["source"] == "cars"


def test_one_seed_has_no_standard_deviation() -> None:
    (summary,) = summarise([outcome("a", {BASE: bits(6, 10)})])
    assert summary.metrics[BASE].overall == Statistic(0.6, None, 1)


# tables and plots


def report_outcomes() -> list[Outcome]:
    """Two methods in every protocol, with two seeds, and a probe."""
    outcomes = [outcome("probe", {BASE: bits(7, 10)}, source="pets", seed=1, payload=1234)]
    for name, n in (("qcoop-1", 8), ("coop", 6), ("zero-shot", 5)):
        size = {"qcoop-1": 68, "coop": 2048, "zero-shot": 0}[name]
        for seed in (1, 2):
            more = bits(n + seed - 1, 10)
            for source in ("pets", "cars|odd"):
                outcomes.append(halves(name, more, bits(n, 10), source=source, seed=seed, payload=size))
                for shots in (1, 4):
                    scores = {ALL: bits(n - 4 + shots, 10)}
                    outcomes.append(outcome(name, scores, source, seed, shots, FEW_SHOT, size))
            far = {"pets/all": more, "cars|odd/all": bits(n - 3, 10)}
            outcomes.append(outcome(name, far, seed=seed, protocol=CROSS_DATASET, payload=size))
    return outcomes


def test_tables_hold_the_figures() -> None:
    outcomes = report_outcomes()
    run = {"backbone": "tiny", "data sets": ["pets", "cars|odd"], "command": "reproduce --set *"}
    text = markdown(outcomes, judge(outcomes, CLAIMS), run)
    lines = text.splitlines()
    assert lines[:5] == [
        "# Results",
        "",
        "- backbone: tiny",
        r"- data sets: pets, cars\|odd",
        r"- command: reproduce --set \*",
    ]
    assert r"| method | cars\|odd | pets | mean | draws | bytes |" in lines
    # base 80 and 90, new 80: H 80 and 2 * 0.9 * 0.8 / 1.7 = 84.7
    # standard deviations 10 / sqrt 2 and 4.7 / sqrt 2
    both = "85.0 / 80.0 / 82.4"
    assert f"| QCoOp, 1 bit | {both} | {both} | 85.0 ± 7.1 / 80.0 ± 0.0 / 82.4 ± 3.3 | 2 | 68 |" in lines
    # a method that lacks a data set has no mean
    assert "| linear probe | - / - / - | 70.0 / - / - | - / - / - | 1 | 1,234 |" in lines
    assert "| method | 1 shot, 2 draws | 4 shots, 2 draws |" in lines
    assert "| CoOp | 30.0 ± 0.0 | 60.0 ± 0.0 |" in lines
    assert r"### cars\|odd" in lines
    # the source comes first and does not count
    assert r"| method | pets | cars\|odd | mean | draws | bytes |" in lines
    assert "| CoOp | 65.0 | 30.0 | 30.0 ± 0.0 | 2 | 2,048 |" in lines
    (claim,) = (line for line in lines if "QCoOp at 1 bit is 2 points of H ahead" in line)
    assert "| +20.0 |" in claim
    assert claim.split(" | ")[5:7] == ["+2.0", "0.0332"]
    assert text.endswith("|\n")
    assert "\n\n\n" not in text


def test_tables_say_how_many_draws_each_mean_is_over() -> None:
    some = [halves("coop", bits(5, 9), bits(5, 9), seed=seed) for seed in (1, 2, 3)]
    some.append(halves("zero-shot", bits(5, 9), bits(5, 9)))
    some.append(halves("zero-shot", bits(5, 9), bits(5, 9), source="cars"))
    some.append(halves("zero-shot", bits(5, 9), bits(5, 9), source="cars", seed=2))
    for shots, seeds in ((1, (1, 2, 3)), (4, (1,))):
        some += [outcome("coop", {ALL: bits(5, 9)}, "pets", seed, shots, FEW_SHOT) for seed in seeds]
    some.append(outcome("zero-shot", {ALL: bits(5, 9)}, "pets", 1, 1, FEW_SHOT))
    lines = markdown(some).splitlines()
    first = lines.index("| method | cars | pets | mean | draws | bytes |") + 2
    assert [line.split(" | ")[-2] for line in lines[first : first + 2]] == ["1 to 2", "3"]
    assert "| method | 1 shot, 1 to 3 draws | 4 shots, 1 draw |" in lines


def test_tables_have_as_many_cells_in_every_row() -> None:
    outcomes = report_outcomes()
    for block in markdown(outcomes, judge(outcomes, CLAIMS)).split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace(r"\|", "").count("|") for line in block.splitlines()}) == 1


def test_tables_do_not_depend_on_the_order_of_outcomes() -> None:
    outcomes = report_outcomes()[:3]
    texts = {markdown(order, judge(order, CLAIMS)) for order in permutations(outcomes)}
    assert len(texts) == 1
    assert markdown(report_outcomes()) == markdown(report_outcomes()[::-1])


def test_rows_follow_the_recipes_and_unknown_methods_come_last() -> None:
    names = ["mine", "qcoop-1", "zero-shot", "coop"]
    lines = markdown([halves(name, bits(5, 9), bits(5, 9)) for name in names]).splitlines()
    first = lines.index("| method | pets | mean | draws | bytes |") + 2
    assert [line.split(" | ")[0] for line in lines[first:]] == [
        "| zero-shot",
        "| CoOp",
        "| QCoOp, 1 bit",
        "| mine",
    ]


def test_nothing_run_is_still_a_document() -> None:
    assert markdown([]) == "# Results\n"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0234, "+2.3"), (-0.001, "-0.1"), (-0.0001, "-0.0"), (0, "0.0")]
)
def test_points(value: float, text: str) -> None:
    assert points(value) == text


def test_plots_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    outcomes = report_outcomes()
    verdicts = judge(outcomes, CLAIMS)
    written = write_plots(outcomes, verdicts, tmp_path / "new")
    assert [path.name for path in written] == [SIZE_PLOT, SHOTS_PLOT, CLAIMS_PLOT]
    first = [path.read_bytes() for path in written]
    assert all(data.startswith(b"\x89PNG\r\n\x1a\n") for data in first)
    assert [path.read_bytes() for path in write_plots(outcomes, verdicts, tmp_path / "new")] == first
    assert "matplotlib.pyplot" not in sys.modules


def test_nothing_is_drawn_where_there_is_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert write_plots([], [], tmp_path) == []


def test_plots_without_matplotlib_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    for attempt in (check_plots, lambda: write_plots(report_outcomes(), [], tmp_path)):
        with pytest.raises(
            OutputError, match=r"^plots need matplotlib.*pip install 'qprompt-edge\[plots\]'$"
        ):
            attempt()
    assert not list(tmp_path.iterdir())
