"""The benchmark of `merge` deals photos out as it says, and measures what merging and poison cost."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "benchmarks.labelled"
)  # the checkout itself, as the session with the exporters installs it

from benchmarks import merging
from benchmarks.labelled import Encoded
from qprompt_edge.data.photos import LabelledPhotos
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import ClassName
from qprompt_runtime.text_features import text_features

pytestmark = pytest.mark.export


@pytest.mark.parametrize("half", [False, True])
def test_each_photo_is_one_devices_or_for_testing(half: bool) -> None:
    labels = np.repeat(np.arange(4), 40)
    devices, test = merging.deal(labels, 4, merging.SIZES, 1, half=half)
    assert sorted(np.concatenate([*devices, test]).tolist()) == list(range(160))
    counts = np.stack([np.bincount(labels[device], minlength=4) for device in devices])
    if half:
        assert ((counts > 0).sum(axis=1) >= 2).all()
        assert (counts.sum(axis=0) > 0).all()
    else:
        assert sorted(counts[:, 0].tolist()) == sorted(merging.SIZES)


def test_a_set_is_measured(tiny: Backbone) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 36)
    names = ("cat", "dog", "car")
    text = text_features(tiny, list(map(ClassName.from_label, names)), merging.TEMPLATE)
    features = text[labels] + rng.normal(0, 0.03, (108, text.shape[1]))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    paths = tuple(Path(str(number)) for number in range(108))
    known = Encoded(LabelledPhotos(paths, labels, names), features, np.arange(108))
    row = merging.measure(known, tiny, [1, 2], half=False)
    assert (row["classes"], row["draws"]) == (3, 2)
    assert row["top1"]["merged"] > 0.9
    assert row["costs"][merging.LABELS][0] < 0.1
    header, rows = merging.table({"sets": {"clear": row}})
    assert len(header) == len(rows[0])
