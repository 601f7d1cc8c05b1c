"""Our trainer at 32 bits follows an independent MaPLe in PyTorch.

Start, batches and learning rates are the same.
"""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import open_clip
import torch

from qprompt_edge.tuning import qmaple
from qprompt_edge.tuning.config import class_members, epoch_batches, learning_rate
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_edge.tuning.trainer import start, train
from qprompt_exporters.prompted import prompted_features
from qprompt_runtime.deep_backbone import DeepBackbone
from qprompt_runtime.prompt_file import COUPLED, FOLDED

pytestmark = pytest.mark.export

MODEL = "small-deep"
NAMES = ["cat", "fire engine", "grand piano", "snow leopard", "T-shirt"]
CONFIG = default_training(
    "qcoop",
    bits=32,
    epochs=5,
    batch_size=5,
    lr=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    warmup_epochs=1,
    seed=3,
)
STEPS = 20
LEARNED = (qmaple.TEXT, qmaple.PROJECTIONS)


def photos() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(NAMES)), 4)
    patterns = rng.normal(size=(len(NAMES), 3, 32, 32))
    return (patterns[labels] + 0.7 * rng.normal(size=(len(labels), 3, 32, 32))).astype(np.float32), labels


def torch_trajectory(
    model: Any, learned: dict[str, Any], batches: list[Any], rates: list[float]
) -> tuple[list[dict[str, Any]], list[float]]:
    """What is learned and the loss after each step of `torch.optim.SGD`."""
    pixels, labels = (torch.from_numpy(array) for array in photos())
    ids = open_clip.get_tokenizer(MODEL)([f"a photo of a {name}." for name in NAMES])
    leaves = {name: torch.nn.Parameter(torch.from_numpy(learned[name].copy())) for name in LEARNED}
    optimizer = torch.optim.SGD(leaves.values(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    states, losses = [], []
    for batch, rate in zip(batches, rates, strict=True):
        text, projections = leaves.values()
        pairs = zip(text, projections, strict=True)
        image = torch.stack([torch.nn.functional.linear(p, m[:, :-1], m[:, -1]) for p, m in pairs])
        classes, images = prompted_features(model, ids, pixels[batch], text, image)
        loss = torch.nn.functional.cross_entropy(model.logit_scale.exp() * images @ classes.T, labels[batch])
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        states.append({name: leaf.detach().numpy().copy() for name, leaf in leaves.items()})
        losses.append(loss.item())
    return states, losses


@pytest.mark.parametrize("method", [FOLDED, COUPLED])
def test_everything_learned_follows_torch(method: str, small_bundle: Any, small_model: Any) -> None:
    backbone = DeepBackbone(small_bundle(MODEL, "fp32", 4), threads=1)
    pixels, labels = photos()
    prompt = qmaple.initial_prompt(backbone, NAMES, CONTEXT_INIT, qmaple.CONTEXT_VECTORS, CONFIG.seed)
    assert prompt.template == ("of a", ".")
    stems = backbone.encode_stem(pixels)
    objective = qmaple.DeepObjective(backbone, prompt.tokens, lambda rows, _epoch: stems[rows], labels)
    reparameterization = qmaple.reparameterization(method)
    steps = list(
        train(
            start(prompt.learned, CONFIG, reparameterization), objective, labels, CONFIG, reparameterization
        )
    )
    batches = [
        batch
        for epoch in range(CONFIG.epochs)
        for batch in epoch_batches(class_members(labels), CONFIG, epoch)
    ]
    rates = [learning_rate(step, len(batches) // CONFIG.epochs, CONFIG) for step in range(len(batches))]
    theirs, losses = torch_trajectory(
        small_model(MODEL).model.requires_grad_(False), prompt.learned, batches, rates
    )
    assert len(steps) == len(theirs) == STEPS
    for name in LEARNED:
        gaps = [
            np.linalg.norm(ours.state.latent[name] - other[name]) / np.linalg.norm(other[name])
            for ours, other in zip(steps, theirs, strict=True)
        ]
        assert max(gaps) <= 1e-3, f"{name}: largest gap {max(gaps):.2e} at step {int(np.argmax(gaps))}"
        moved = np.linalg.norm(theirs[-1][name] - prompt.learned[name]) / np.linalg.norm(prompt.learned[name])
        assert moved > 0.01, f"{name} moved by {moved:.1%}: following it proves nothing"
    assert np.abs(np.subtract([step.loss for step in steps], losses)).max() <= 1e-3
