"""The benchmark of drift tells photos like the known ones from others."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("benchmarks.drift")  # the checkout itself, as the session with the exporters installs it

from benchmarks import drift
from qprompt_runtime.backbone import Backbone

pytestmark = pytest.mark.export


EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"


def some(folder: Path, labels: tuple[str, ...], count: int) -> Path:
    """A folder with the first photos of some of the examples' classes."""
    for label in labels:
        (folder / label).mkdir(parents=True)
        for photo in sorted((EXAMPLES / label).iterdir())[:count]:
            shutil.copy(photo, folder / label)
    return folder


def test_other_pictures_drift_and_known_ones_do_not(shipped: Backbone, tmp_path: Path):
    known = some(tmp_path / "known", ("bolt", "carrot", "glove", "leaf"), 12)
    others = some(tmp_path / "others", ("stone", "bottle"), 10)
    rows = drift.measure(known, {"others": others}, shipped)
    assert list(rows) == ["known", "known, light x 0.1", "known, blur 4%", "others"]
    assert (rows["known"]["photos"], rows["others"]["photos"]) == (20, 20)
    assert rows["others"]["top1"] is None
    assert rows["known"]["drift"] < 0.35
    assert rows["others"]["drift"] > rows["known"]["drift"] + 0.3
    header, lines = drift.table(rows)
    assert {len(header)} == set(map(len, lines))
