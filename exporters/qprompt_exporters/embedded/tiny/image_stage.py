"""Stage 2: the image tower learns to say what stage 1's text tower says of an image's class and of its kinds.

Three losses a batch:
- softmax over all training classes, a random caption each;
- softmax over a random cut of the tree above them ("bird", "dog", "truck", ...), the shape of a user's task;
- cosine distance to the class's text vector: where the image leaves doubt, the regression's answer is the
  mean of the likely classes' vectors, which is where an unknown class lies (ConSE, Norouzi et al. 2014).
The text tower stands still at first; later it learns slowly, held to its targets on the rest of the
vocabulary.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch.optim import AdamW

from qprompt_exporters.embedded.captions import encode_captions
from qprompt_exporters.embedded.text_tower import distill_loss, text_parameters
from qprompt_exporters.embedded.tiny.class_tree import ClassTree, node_captions, random_cut
from qprompt_exporters.embedded.tiny.muon import Muon
from qprompt_exporters.embedded.tiny.text_stage import sample_nouns
from qprompt_exporters.embedded.wordnet import Noun

CAPTIONS_A_NODE = 8
CUT_STOP = 0.2
COSINE_WEIGHT = 2.0
SMOOTHING = 0.0


@dataclass(frozen=True)
class ImageConfig:
    """Settings of stage 2; all may change when a run is resumed.

    The stem learns alone first, from small images; the blocks, which start as identities, join it later.

    Attributes:
        epochs: the length of the schedule.
        small_until: the epoch up to which images have 32 pixels a side.
        medium_until: the epoch up to which they have 48; 64 after it.
        blocks_from: the epoch from which the transformer blocks are used and trained.
        batch_size: images a step.
        lr: of the image tower.
        text_lr: of the text tower (its token table stands still).
        text_every: the text tower learns at every so many-th step; 0: never.
        decay: the share of the schedule, its end, over which the rates fall to nothing.
        hold_out: train without every so many-th class, to measure on; 0: with all.
        seed: of order, augmentation and captions.
    """

    epochs: float = 42.0
    small_until: float = 12.0
    medium_until: float = 40.2
    blocks_from: float = 21.5
    batch_size: int = 256
    lr: float = 1.2e-2
    text_lr: float = 1e-4
    text_every: int = 0
    decay: float = 0.6
    hold_out: int = 0
    seed: int = 1

    def rate(self, step: int, steps: int) -> float:
        """Gives the factor on the learning rates: a short rise, a plateau, a straight fall."""
        return min(1.0, (step + 1) / 200, max(0.0, (1 - step / steps) / self.decay))

    def image_side(self, epoch: float) -> int:
        """Gives the side of the training images in pixels."""
        return 32 if epoch < self.small_until else 48 if epoch < self.medium_until else 64

    def kept(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Gives the rows of the images to train on."""
        return np.flatnonzero(labels % self.hold_out != 0) if self.hold_out else np.arange(len(labels))


def silence_blocks(model: CLIP) -> None:
    """Sets the last matrix of each residual branch to zero: every block starts as an identity."""
    for block in model.visual.transformer.resblocks:
        for layer in (block.attn.out_proj, block.mlp.c_proj):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)


def make_optimizers(model: CLIP, config: ImageConfig) -> tuple[Muon, AdamW]:
    """Makes the optimizers.

    Muon for the image tower's matrices and filters, AdamW for the rest and the text tower.
    """
    visual = model.visual
    single = [visual.positional_embedding, *(p for p in visual.parameters() if p.ndim < 2), model.logit_scale]
    matrices = [p for p in visual.parameters() if p.ndim > 1 and p is not visual.positional_embedding]
    groups = [
        {"params": single, "peak": config.lr / 4},
        {"params": text_parameters(model, table=False), "peak": config.text_lr},
    ]
    muon = Muon([{"params": matrices, "peak": config.lr}], lr=config.lr)
    return muon, AdamW(groups, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0)


class CaptionBank:
    """Features of captions of every node of the tree, computed at once and drawn from at each step."""

    def __init__(self, tree: ClassTree, rng: random.Random) -> None:
        self.tree = tree
        self.rng = rng
        self.features = torch.empty(0)

    @torch.no_grad()
    def refresh(self, model: CLIP, tokenizer: SimpleTokenizer) -> None:
        """Writes new captions and encodes them: `features` becomes [nodes, CAPTIONS_A_NODE, E]."""
        texts = [text for texts in node_captions(self.tree, CAPTIONS_A_NODE, self.rng) for text in texts]
        parts = [encode_captions(model, tokenizer, texts[i : i + 500]) for i in range(0, len(texts), 500)]
        self.features = torch.cat(parts).view(len(self.tree.nodes), CAPTIONS_A_NODE, -1)

    def draw(self) -> torch.Tensor:
        """Gives the features of one random caption a node, [nodes, E]."""
        choice = [self.rng.randrange(CAPTIONS_A_NODE) for _ in self.tree.nodes]
        return self.features[torch.arange(len(choice)), choice]

    def encode(self, model: CLIP, tokenizer: SimpleTokenizer) -> torch.Tensor:
        """Encodes one fresh caption a node with gradients, [nodes, E]."""
        texts = [captions[-1] for captions in node_captions(self.tree, 2, self.rng)]
        return encode_captions(model, tokenizer, texts)


def encode_images(model: CLIP, pixels: torch.Tensor, blocks: bool = True) -> torch.Tensor:
    """Encodes [B, 3, S, S] of any size that is a multiple of 16 to unit vectors [B, E].

    At other sizes than 64 the position embedding is interpolated. Without `blocks`, as `silence_blocks`
    leaves them, their work is saved.
    """
    visual = model.visual
    tokens = visual.conv1(pixels).flatten(2).transpose(1, 2)
    own, side = visual.grid_size[0], pixels.shape[-1] // 16
    position = visual.positional_embedding
    if side != own:
        grid = position[1:].T.reshape(1, -1, own, own)
        grid = F.interpolate(grid, (side, side), mode="bilinear").flatten(2).squeeze(0).T
        position = torch.cat([position[:1], grid])
    start = visual.class_embedding.expand(len(tokens), 1, -1)
    x = visual.ln_pre(torch.cat([start, tokens], dim=1) + position)
    pooled, _ = visual._pool(visual.transformer(x) if blocks else x)
    return F.normalize(pooled @ visual.proj, dim=-1)


def image_loss(
    features: torch.Tensor, labels: torch.Tensor, nodes: torch.Tensor, scale: torch.Tensor, bank: CaptionBank,
    trained: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Sums the three losses named at the top of the module.

    Args:
        features: [B, E] unit vectors of images.
        labels: [B] their classes.
        nodes: [nodes, E] unit vectors of one caption a node.
        scale: the logit scale.
        bank: captions and tree.
        trained: [leaves] true for the classes that are trained on; the others are no candidates.

    Returns:
        The loss and the share of images whose class comes first, scalars.
    """
    leaves = nodes[: len(trained)]
    logits = (scale * features @ leaves.T).masked_fill(~trained, -1e4)
    smooth = F.one_hot(labels, len(trained)) * (1 - SMOOTHING) + trained * (SMOOTHING / trained.sum())
    leaf_loss = -(smooth * F.log_softmax(logits, dim=1)).sum(dim=1).mean()

    chosen, place = random_cut(bank.tree, CUT_STOP, bank.rng)
    seen = torch.zeros(len(chosen), dtype=torch.bool)
    seen[place[trained]] = True
    cut_logits = (scale * features @ nodes[chosen].T).masked_fill(~seen, -1e4)
    cut_loss = F.cross_entropy(cut_logits, place[labels])

    centre = F.normalize(bank.features[: len(trained)].mean(dim=1), dim=-1)
    cosine_loss = 1 - (features * centre[labels]).sum(dim=1).mean()
    hits = (logits.argmax(dim=1) == labels).float().mean()
    return leaf_loss + cut_loss + COSINE_WEIGHT * cosine_loss, hits


def hold_text(
    model: CLIP, tokenizer: SimpleTokenizer, nouns: list[Noun], targets: torch.Tensor, rng: random.Random
) -> torch.Tensor:
    """Gives stage 1's loss on a few random nouns, which keeps words that no image shows in their place."""
    texts, wanted = sample_nouns(nouns, targets, 192, rng)
    return 4 * distill_loss(encode_captions(model, tokenizer, texts), wanted)


def trained_classes(config: ImageConfig, leaves: int) -> torch.Tensor:
    """Marks the classes that are trained on, [leaves]."""
    mark = torch.ones(leaves, dtype=torch.bool)
    if config.hold_out:
        mark[:: config.hold_out] = False
    return mark
