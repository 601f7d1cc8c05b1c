"""The benchmark of `watch` counts what is missed and what is left behind."""

import pytest
from conftest import TINY_FOLDER

pytest.importorskip(
    "benchmarks.watching"
)  # the checkout itself, as the session with the exporters installs it

from benchmarks.processes import run_module
from benchmarks.watching import rows

pytestmark = pytest.mark.export


@pytest.mark.parametrize("part", ["losses", "reloads"])
def test_the_benchmark_counts_what_is_missed(part: str):
    """A few of each, in a process of its own; how memory goes is for more of them."""
    answer = run_module("benchmarks.watch_steps", part, TINY_FOLDER, 20, threads=1).answer
    assert (answer["count"], answer["missed"]) == (20, 0)
    assert (answer["files"], answer["threads"]) == (answer["first_files"], answer["first_threads"])
    (row,) = rows({part: answer})
    assert row[0].startswith("20 ")
    assert row[1].endswith("+0 open files, +0 threads, 0 missed")
