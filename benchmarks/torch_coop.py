"""CoOp in PyTorch as its authors' code works (Zhou et al., IJCV 2022), to compare with.

    python -m benchmarks.torch_coop --model ViT-B-32 --names cat,dog --variant authors --steps 5 --threads 2

A class's prompt is `a photo of a <name>.` with underscores as spaces; the embeddings of the four words `a
photo of a` become four learned vectors that all classes share. Embeddings of everything else are taken once.
One step, variant `authors`: the image tower encodes the batch (no gradient), the text tower runs all classes
at its full length of 77 tokens, autograd goes back through it to the context, and SGD (momentum 0.9, decay
5e-4) moves it.

The variant `trimmed` is what a careful user of PyTorch can do: image features are computed before, and the
text ends at the longest prompt's end token where the tower is causal (exact there; elsewhere it keeps the
full length).

In PyTorch's favour: images come as tensors that were decoded, cropped and flipped beforehand, image towers
that can be reparametrised are, and loading is not counted. As in the authors' code nothing but the context
asks for a gradient, so autograd computes none for the weights. Precision is float32, which the authors' code
takes on processors too.

Prints one JSON line: `steps` (seconds each, after one that is not counted), `encode` (seconds for the batch
of images), `losses`, `text_length`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from open_clip.transformer import text_global_pool
from torch import nn
from torch.nn import functional

from qprompt_exporters.models import SourceModel, load_source

VARIANTS = ("authors", "trimmed")
CONTEXT = "a photo of a"
LEARNING_RATE = 0.002
_SEED = 0


class PromptLearner(nn.Module):
    """Context vectors that all classes share, and the frozen embeddings around them.

    Args:
        source: The model and its tokenizer.
        names: Names of the C classes.
        trimmed: Whether the text ends where the longest prompt does.
    """

    def __init__(self, source: SourceModel, names: Sequence[str], *, trimmed: bool) -> None:
        super().__init__()
        model: Any = source.model
        text = getattr(model, "text", model)
        prompts = [f"{CONTEXT} {name.replace('_', ' ')}." for name in names]
        ids = source.tokenizer(prompts, int(model.context_length))
        if trimmed and text.attn_mask is not None:
            ids = ids[:, : int(ids.argmax(dim=-1).max()) + 1]
        count = len(source.tokenizer.encode(CONTEXT))
        with torch.no_grad():
            rows = text.token_embedding(ids)
        self.ids = ids
        self.context = nn.Parameter(rows[0, 1 : 1 + count].clone())
        self.register_buffer("prefix", rows[:, :1])
        self.register_buffer("suffix", rows[:, 1 + count :])

    def forward(self) -> torch.Tensor:
        """Embeddings of all prompts, [C,L,D]."""
        return torch.cat([self.prefix, self.context.expand(len(self.ids), -1, -1), self.suffix], dim=1)


class CustomCLIP(nn.Module):
    """CLIP whose classes are described by a prompt learner.

    Args:
        source: The model; its weights are frozen.
        names: Names of the C classes.
        trimmed: Whether the text ends where the longest prompt does.
    """

    def __init__(self, source: SourceModel, names: Sequence[str], *, trimmed: bool) -> None:
        super().__init__()
        self.clip: Any = source.model.requires_grad_(False)
        self.prompts = PromptLearner(source, names, trimmed=trimmed)

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Unit features [B,E] of images [B,3,H,W]."""
        with torch.no_grad():
            return functional.normalize(self.clip.encode_image(pixels), dim=-1)

    def encode_classes(self) -> torch.Tensor:
        """Unit features [C,E] of the classes, differentiable at the context."""
        text = getattr(self.clip, "text", self.clip)
        rows = self.prompts()
        length = rows.shape[1]
        mask = None if text.attn_mask is None else text.attn_mask[:length, :length]
        hidden = text.transformer(rows + text.positional_embedding[:length], attn_mask=mask)
        ends = text_global_pool(text.ln_final(hidden), self.prompts.ids, pool_type="argmax")
        return functional.normalize(ends @ text.text_projection, dim=-1)

    def loss(self, image_features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of a batch."""
        logits = self.clip.logit_scale.exp() * image_features @ self.encode_classes().T
        return functional.cross_entropy(logits, labels)


def time_steps(
    model: CustomCLIP, pixels: torch.Tensor, labels: torch.Tensor, steps: int, *, cached: bool
) -> tuple[list[float], list[float]]:
    """Train for some steps on one batch.

    Args:
        model: The model.
        pixels: Images [B,3,H,W].
        labels: Classes [B].
        steps: How many steps count; one more runs before them.
        cached: Whether the images are encoded once, not at every step.

    Returns:
        Seconds and losses of the steps that count.
    """
    optimizer = torch.optim.SGD([model.prompts.context], lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    features = model.encode_images(pixels) if cached else None
    seconds, losses = [], []
    for _ in range(1 + steps):
        started = time.perf_counter()
        seen = model.encode_images(pixels) if features is None else features
        loss = model.loss(seen, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - started)
    return seconds[1:], losses[1:]


def load(name: str) -> SourceModel:
    """A model with the random weights that its bundle has, its image tower reparametrised where it can be."""
    source = load_source(name)
    model: Any = source.model
    if any(hasattr(module, "reparameterize") for module in model.visual.modules()):
        from timm.utils import reparameterize_model

        model.visual = reparameterize_model(model.visual)
    return source


def measure(name: str, names: Sequence[str], variant: str, steps: int, batch: int) -> dict[str, Any]:
    """Time one variant; see the module's text for what is in the answer."""
    source = load(name)
    torch.manual_seed(_SEED)
    pixels = torch.randn(batch, 3, *source.transform.size)
    labels = torch.arange(batch) % len(names)
    trimmed = variant == "trimmed"
    model = CustomCLIP(source, names, trimmed=trimmed)
    seconds, losses = time_steps(model, pixels, labels, steps, cached=trimmed)
    started = time.perf_counter()
    model.encode_images(pixels)
    encode = time.perf_counter() - started
    return {
        "steps": seconds,
        "encode": encode,
        "losses": losses,
        "batch": batch,
        "classes": len(names),
        "text_length": int(model.prompts.ids.shape[1]),
        "torch": torch.__version__,
    }


def main() -> None:
    """Run one variant from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--names", required=True, help="class names, separated by commas")
    parser.add_argument("--variant", choices=VARIANTS, default="authors")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = [name.strip() for name in options.names.split(",")]
    print(json.dumps(measure(options.model, names, options.variant, options.steps, options.batch)))


if __name__ == "__main__":
    main()
