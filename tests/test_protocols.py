"""Which classes and photos the protocols choose."""

from pathlib import Path

import numpy as np
import pytest
from scenes import complaint

from qprompt_edge.data.photos import LabelledPhotos, SkippedPhoto
from qprompt_edge.reproduction.protocols import base_and_new


def of_classes(*counts: int) -> LabelledPhotos:
    """As many photos of each class, the classes interleaved as far as they go."""
    labels = np.array(
        [label for n in range(max(counts)) for label in range(len(counts)) if n < counts[label]]
    )
    paths = tuple(Path(f"{label}/{index}.jpg") for index, label in enumerate(labels))
    classes = tuple(f"class {label}" for label in reversed(range(len(counts))))  # not in alphabetical order
    return LabelledPhotos(paths, labels.astype(np.int64), classes, (SkippedPhoto(Path("x"), "broken"),))


@pytest.mark.parametrize(("count", "middle"), [(2, 1), (3, 2), (10, 5), (37, 19), (47, 24), (101, 51)])
def test_the_first_half_of_the_classes_is_base(count: int, middle: int) -> None:
    photos = of_classes(*[3] * count)
    base, new = base_and_new(photos)
    assert base.classes == photos.classes[:middle]
    assert new.classes == photos.classes[middle:]
    for half, first in ((base, 0), (new, middle)):
        assert half.labels.dtype == np.int64
        assert np.bincount(half.labels).tolist() == [3] * len(half.classes)
        assert [path.parent.name for path in half.paths] == [str(label + first) for label in half.labels]
        assert list(half.paths) == [path for path in photos.paths if path in half.paths]
        assert half.skipped == ()


def test_parts_are_halved_at_the_same_class_even_without_its_photos() -> None:
    base, new = base_and_new(of_classes(2, 0, 0, 1))
    assert (base.classes, new.classes) == (("class 3", "class 2"), ("class 1", "class 0"))
    assert (base.labels.tolist(), new.labels.tolist()) == ([0, 0], [1])
    empty = of_classes(1, 1, 1).select([])
    assert [len(half.classes) for half in base_and_new(empty)] == [2, 1]


def test_one_class_cannot_be_halved() -> None:
    assert "at least 2 classes, got 1" in complaint(base_and_new, of_classes(4))
