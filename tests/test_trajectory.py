"""Our trainer at 32 bits follows an independent CoOp in PyTorch.

Start, batches and learning rates are the same. The reference uses open_clip and `torch.optim.SGD` only. It
runs the text tower at its full 77 tokens, one row per class, and encodes the images itself.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import open_clip
import torch

from qprompt_edge.tuning.config import class_members, epoch_batches, learning_rate
from qprompt_edge.tuning.methods import default_training
from qprompt_edge.tuning.qcoop import ROLE, ContextObjective, initial_prompt
from qprompt_edge.tuning.trainer import start, train

pytestmark = pytest.mark.export

NAMES = ["cat", "fire engine", "grand piano", "snow leopard", "T-shirt", "bicycle built for two"]
SHOTS = 5
STEPS = 50
CONFIG = default_training(
    "qcoop",
    bits=32,
    epochs=10,
    batch_size=6,
    lr=0.05,
    momentum=0.9,
    weight_decay=5e-4,
    warmup_epochs=1,
    seed=3,
)


def photos() -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N,3,32,32] with a pattern for each class, and labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(NAMES)), SHOTS)
    patterns = rng.normal(size=(len(NAMES), 3, 32, 32))
    return (patterns[labels] + 0.7 * rng.normal(size=(len(labels), 3, 32, 32))).astype(np.float32), labels


class TorchCoOp(torch.nn.Module):
    """CoOp: learnable context vectors between the start token and the class name."""

    def __init__(self, clip: Any, *, per_class: bool) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(False)
        tokenizer = open_clip.tokenizer.SimpleTokenizer()
        self.ids = tokenizer([f"a photo of a {name}." for name in NAMES], 77)
        self.embedding = clip.text.token_embedding if hasattr(clip, "text") else clip.token_embedding
        with torch.no_grad():
            words = self.embedding(self.ids[:, 1:5])
        self.context = torch.nn.Parameter((words if per_class else words[:1]).clone())

    def class_features(self) -> torch.Tensor:
        def put_context(_module: Any, _inputs: Any, rows: torch.Tensor) -> torch.Tensor:
            return torch.cat([rows[:, :1], self.context.expand(len(rows), -1, -1), rows[:, 5:]], dim=1)

        handle = self.embedding.register_forward_hook(put_context)
        try:
            return torch.nn.functional.normalize(self.clip.encode_text(self.ids), dim=-1)
        finally:
            handle.remove()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        images = torch.nn.functional.normalize(self.clip.encode_image(pixels), dim=-1)
        return self.clip.logit_scale.exp() * images @ self.class_features().T


def torch_trajectory(
    model: TorchCoOp, batches: list[np.ndarray], rates: list[float]
) -> tuple[list[Any], list[float]]:
    pixels, labels = (torch.from_numpy(array) for array in photos())
    optimizer = torch.optim.SGD([model.context], lr=1.0, momentum=0.9, weight_decay=5e-4)
    contexts, losses = [], []
    for batch, rate in zip(batches, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(pixels[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        contexts.append(model.context.detach().numpy().copy())
        losses.append(loss.item())
    return contexts, losses


@pytest.fixture(scope="module")
def trajectories(small_backbone: Any, small_model: Any) -> Any:
    """Ours and torch's context vectors and losses, step by step."""

    @cache
    def both(name: str, per_class: bool) -> tuple[list[Any], list[float], list[Any], list[float]]:
        backbone = small_backbone(name)
        pixels, labels = photos()
        prompt = initial_prompt(backbone, NAMES, per_class=per_class)
        features = backbone.encode_images(pixels)[:, None]
        objective = ContextObjective(backbone, prompt.tokens, features, labels, CONFIG.seed)
        progress = list(train(start({ROLE: prompt.context}, CONFIG), objective, labels, CONFIG))
        ours = [step.state.latent[ROLE] for step in progress]

        batches = [
            batch
            for epoch in range(CONFIG.epochs)
            for batch in epoch_batches(class_members(labels), CONFIG, epoch)
        ]
        rates = [learning_rate(step, len(batches) // CONFIG.epochs, CONFIG) for step in range(len(batches))]
        model = TorchCoOp(small_model(name).model, per_class=per_class)
        theirs, their_losses = torch_trajectory(model, batches, rates)
        return ours, [step.loss for step in progress], theirs, their_losses

    return both


CASES = [
    ("small-causal", False),
    ("small-causal", True),
    ("small-noncausal", False),
    ("small-quickgelu", False),
]


@pytest.mark.parametrize(("name", "per_class"), CASES)
def test_context_vectors_follow_torch(name: str, per_class: bool, trajectories: Any) -> None:
    ours, _, theirs, _ = trajectories(name, per_class)
    assert len(ours) == len(theirs) == STEPS
    gaps = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(ours, theirs, strict=True)]
    assert max(gaps) <= 1e-3, f"largest gap {max(gaps):.2e} at step {int(np.argmax(gaps))}"


@pytest.mark.parametrize(("name", "per_class"), CASES)
def test_losses_follow_torch(name: str, per_class: bool, trajectories: Any) -> None:
    _, ours, _, theirs = trajectories(name, per_class)
    gap = np.abs(np.subtract(ours, theirs)).max()
    assert gap <= 1e-3, f"{gap:.2e}"


@pytest.mark.parametrize(("name", "per_class"), CASES)
def test_the_trajectory_leads_somewhere(name: str, per_class: bool, trajectories: Any) -> None:
    """Otherwise following it would prove nothing."""
    ours, losses, _, _ = trajectories(name, per_class)
    moved = np.linalg.norm(ours[-1] - ours[0]) / np.linalg.norm(ours[0])
    assert moved > 0.1, f"moved by {moved:.1%}"
    assert np.mean(losses[-5:]) < np.mean(losses[:5]), losses
