"""The example of federated rounds, without Flower: photos dealt out, prompts tuned in rounds and merged."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scenes import CLASSES

from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import PromptFile

FOLDER = Path(__file__).parent.parent / "examples" / "flower"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python and Flower make the example's modules."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in [name for name in sys.modules if name.partition(".")[0] == "prompt_fleet"]:
        monkeypatch.delitem(sys.modules, name)


def test_rounds_of_three_clients(tiny: Backbone, photos: Path, tmp_path: Path) -> None:
    import loopback
    from prompt_fleet.rounds import float32_bytes, merged, photos_of, tuned

    places = loopback.deal(photos, tmp_path / "shares", loopback.CLIENTS)
    dealt = [path.name for path in (tmp_path / "shares").rglob("*.png")]
    assert sorted(dealt) == sorted(path.name for path in photos.rglob("*.png"))
    assert {path.name for place in places for path in place.iterdir()} == set(CLASSES)
    mine = [photos_of(place, tiny) for place in places]
    first = [tuned(b"", share, tiny, 5) for share in mine]
    assert len(set(first)) == 3
    result = merged(first, None)
    assert sum(result.prompt.photos) == sum(len(share.labels) for share in mine)
    second = tuned(result.prompt.to_bytes(), mine[0], tiny, 1)
    both = [PromptFile.from_bytes(prompt).groups[0].values() for prompt in (result.prompt.to_bytes(), second)]
    assert np.corrcoef(both[0].ravel(), both[1].ravel())[0, 1] > 0.9  # it goes on from there
    assert float32_bytes(second) == 4 * 3 * (tiny.manifest.embed_dim + 1)
    assert len(second) < float32_bytes(second) / 4
