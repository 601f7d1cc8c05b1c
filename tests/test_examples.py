"""The example photos are what their script renders."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from qprompt_edge.data.splits import difference_hash, near_duplicate_groups

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = EXAMPLES / "photos"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(EXAMPLES))  # as Python does for a script
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


make_photos = script("make_photos")


def test_photos_are_complete_and_small():
    files = sorted(path for path in PHOTOS.rglob("*") if path.is_file())
    names = [f"{name}/{n:02d}.jpg" for name in make_photos.CLASSES for n in range(make_photos.PER_CLASS)]
    assert [path.relative_to(PHOTOS).as_posix() for path in files] == sorted(names)
    assert len(make_photos.CLASSES) >= 6
    assert make_photos.PER_CLASS >= 24
    assert sum(path.stat().st_size for path in files) < 2_000_000


@pytest.mark.parametrize("name", make_photos.CLASSES)
def test_photos_are_what_the_script_renders(name, tmp_path):
    """Encoders and sines differ a little between versions and processors, pictures do not."""
    number = 3 * list(make_photos.CLASSES).index(name)
    path = tmp_path / "photo.jpg"
    make_photos.render(name, number).save(path, quality=make_photos.QUALITY)
    with Image.open(path) as again, Image.open(PHOTOS / name / f"{number:02d}.jpg") as kept:
        assert again.size == kept.size == (make_photos.SIDE, make_photos.SIDE)
        gap = np.abs(np.asarray(again, dtype=float) - np.asarray(kept, dtype=float))
    assert gap.mean() < 2, f"mean difference {gap.mean():.3f}, largest {gap.max():.0f}"


def test_no_photo_repeats_another():
    hashes, labels = [], []
    for label, name in enumerate(make_photos.CLASSES):
        for path in sorted((PHOTOS / name).iterdir()):
            with Image.open(path) as image:
                hashes.append(difference_hash(image))
            labels.append(label)
    groups = near_duplicate_groups(np.array(hashes, dtype=np.uint64), np.array(labels, dtype=np.int64))
    assert len(np.unique(groups)) == len(hashes)
