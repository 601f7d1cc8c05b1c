"""The benchmarks of `check` plant what they say, and count what was found."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "benchmarks.labelled"
)  # the checkout itself, as the session with the exporters installs it

from benchmarks import enough_photos, mislabels, poor_photos
from benchmarks.labelled import Encoded, encoded
from qprompt_edge.data.photos import LabelledPhotos
from qprompt_runtime.backbone import Backbone

pytestmark = pytest.mark.export

EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"


@pytest.fixture
def clear() -> Encoded:
    """Three classes of 40 photos that no classifier mixes up."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 40)
    features = np.eye(3, 8)[labels] + rng.normal(0, 0.1, (120, 8))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    paths = tuple(Path(str(number)) for number in range(120))
    return Encoded(
        LabelledPhotos(paths, labels, ("a", "b", "c")), features.astype(np.float32), np.arange(120)
    )


def test_as_many_labels_are_replaced_as_asked() -> None:
    labels = np.repeat(np.arange(4), 50)
    given, wrong = mislabels.replaced(labels, 4, 0.05, 1)
    assert wrong.sum() == 10
    assert np.array_equal(given != labels, wrong)
    assert set(given.tolist()) == {0, 1, 2, 3}
    assert not np.array_equal(given, mislabels.replaced(labels, 4, 0.05, 2)[0])


def test_what_was_found_is_counted(clear: Encoded) -> None:
    row = mislabels.measure(clear, range(2), None)
    assert (row["photos"], row["found"], row["named"], row["doubted"]) == (120, 1.0, 1.0, 0.0)
    assert row["listed_as_it_is"] == 0
    few = mislabels.measure(clear, range(2), 12)
    assert few["photos"] == 36
    header, rows = mislabels.table({"sets": {"clear": row}})
    assert len(header) == len(rows[0])


def test_what_twice_the_photos_add_is_compared(clear: Encoded) -> None:
    rows = enough_photos.measure(clear)
    assert [row["photos"] for row in rows] == [5, 10, 20]
    assert all(row["gain"] == pytest.approx(0, abs=0.02) for row in rows)
    header, lines = enough_photos.table({"clear": rows})
    assert {len(header)} == set(map(len, lines))


def test_poor_photos_are_made_and_counted(tiny: Backbone) -> None:
    found = poor_photos.shares(EXAMPLES, tiny.manifest.image_transform)
    assert found["photos"] == 80
    assert found["made"]["blur 4%"] > 0.9
    assert found["made"]["light x 0.1"] > 0.9
    assert found["as they are"] == pytest.approx(dict.fromkeys(poor_photos.KINDS, 0), abs=0.02)


def test_a_folder_is_encoded(tiny: Backbone, photos: Path) -> None:
    known = encoded(photos, tiny)
    assert known.features.shape == (18, tiny.manifest.embed_dim)
    assert len(known.groups) == len(known.photos.paths) == 18
