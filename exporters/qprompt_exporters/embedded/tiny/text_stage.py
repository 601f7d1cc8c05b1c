"""Stage 1: the text tower learns the noun vocabulary from a sentence encoder, before it sees any image."""

import random
import time

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch.optim import AdamW

from qprompt_exporters.embedded.captions import encode_captions, noun_caption
from qprompt_exporters.embedded.text_tower import distill_loss, text_parameters
from qprompt_exporters.embedded.wordnet import Noun

BATCH = 256


def sample_nouns(
    nouns: list[Noun], targets: torch.Tensor, count: int, rng: random.Random
) -> tuple[list[str], torch.Tensor]:
    """Draws nouns; gives a caption of each and their targets [count, E]."""
    rows = [rng.randrange(len(nouns)) for _ in range(count)]
    return [noun_caption(nouns[row], rng) for row in rows], targets[rows]


def train_text(
    model: CLIP, nouns: list[Noun], targets: torch.Tensor, rows: NDArray[np.float32], steps: int, seed: int
) -> None:
    """Trains the text tower in place, with 5% of the nouns withheld to measure on; prints progress.

    Args:
        model: the backbone.
        nouns: N nouns.
        targets: [N, E] unit vectors.
        rows: [49408, width], the token table's first values.
        steps: batches of captions.
        seed: of the order, the captions and the withheld nouns.
    """
    rng = random.Random(seed)
    order = rng.sample(range(len(nouns)), len(nouns))
    held, kept = order[: len(order) // 20], order[len(order) // 20 :]
    kept_nouns, kept_targets = [nouns[i] for i in kept], targets[kept]
    tokenizer = SimpleTokenizer()
    model.token_embedding.weight.data.copy_(torch.from_numpy(rows))
    optimizer = AdamW(text_parameters(model, table=True), lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    started = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * (1 - step / steps)
        texts, wanted = sample_nouns(kept_nouns, kept_targets, BATCH, rng)
        loss = distill_loss(encode_captions(model, tokenizer, texts), wanted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(text_parameters(model, table=True), 1.0)
        optimizer.step()
        if step % 50 == 49:
            passed = time.monotonic() - started
            left = passed / (step + 1) * (steps - step - 1)
            print(f"text {step + 1}/{steps} loss {loss.item():.3f} {left:.0f} s left", flush=True)
    with torch.inference_mode():
        probe = held[:1000]
        features = encode_captions(model, tokenizer, [f"a photo of a {nouns[i].name}." for i in probe])
        cosine = (features * targets[probe]).sum(dim=1).mean()
    print(f"text: cosine to the teacher {cosine:.3f} on nouns it has not seen", flush=True)
