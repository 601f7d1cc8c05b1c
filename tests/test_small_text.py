"""How `small`'s text tower is trained: it starts as `tiny`'s, and a stopped run goes on to the bit."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch.nn.functional import normalize

from qprompt_exporters.embedded.backbones import EMBEDDED
from qprompt_exporters.embedded.captions import encode_captions
from qprompt_exporters.embedded.small import text_stage
from qprompt_exporters.embedded.small.model import build_small
from qprompt_exporters.embedded.small.text_stage import TextStage, start_from_tiny
from qprompt_exporters.embedded.wordnet import Noun

pytestmark = pytest.mark.export

NOUNS = [
    Noun(name, f"n{i}", "thing", f"a thing called {name}")
    for i, name in enumerate(["cup", "oak", "hen", "nut"] * 6)
]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> TextStage:
    monkeypatch.setattr(text_stage, "BATCH", 6)
    torch.manual_seed(0)
    model = build_small()
    start_from_tiny(model)
    targets = normalize(torch.randn(len(NOUNS), 256), dim=1)
    return TextStage(model, NOUNS, targets, NOUNS[:2], targets[:2], steps=4)


def text_state(stage: TextStage) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in stage.model.state_dict().items() if not n.startswith("visual.")}


def test_it_starts_as_tiny() -> None:
    model, texts = build_small(), ["a photo of a cat.", "screw"]
    start_from_tiny(model)
    with torch.no_grad():
        expected = encode_captions(EMBEDDED["tiny"].load(), SimpleTokenizer(), texts)
        torch.testing.assert_close(encode_captions(model, SimpleTokenizer(), texts), expected)


def test_names_with_a_prototype_are_never_withheld(stage: TextStage) -> None:
    assert stage.held
    assert {noun.name for noun in stage.held} & {noun.name for noun in stage.known} == set()
    assert len(stage.nouns) + len(stage.held) == len(NOUNS)


def test_a_text_run_resumes_to_the_bit(stage: TextStage, tmp_path: Path) -> None:
    start = text_state(stage)
    stage.update()
    stage.save(tmp_path / "text.pt")
    stage.update()
    whole = text_state(stage)
    assert not torch.equal(start["text_projection"], whole["text_projection"])
    stage.model.load_state_dict(start, strict=False)
    stage.load(tmp_path / "text.pt")
    assert stage.step == 1
    stage.update()
    for name, tensor in text_state(stage).items():
        assert torch.equal(tensor, whole[name]), name
