"""What follows the trunk: a linear map and two transformer blocks.

The map needs no training, the blocks learn a little. The map comes from the classifier itself
(`targets.projection`). The blocks look at the trunk's 7 x 7 grid, start as identities, and learn on stored
grids to say the text tower's names of ImageNet's classes: of sharp photographs with the original trunk's own
doubts (soft targets), of Tiny ImageNet with its labels. A third loss holds the feature near the linear map's,
which knows directions that no training class asks for.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip import CLIP
from torch.optim import AdamW

from qprompt_exporters.embedded.small.model import TrunkTransformer
from qprompt_exporters.embedded.small.targets import projection
from qprompt_exporters.embedded.small.trunk import Trunk
from qprompt_exporters.embedded.small.views import batch_of


@dataclass(frozen=True)
class Grids:
    """The trunk's answers to N views, stored once.

    Attributes:
        grid: [N, 320, 7, 7] float16.
        pooled: [N, 1280] float16.
        wanted: [N, 1000] float16, each class's share as the true one.
        labelled: [N] true for Tiny ImageNet's, whose classes compete only among themselves.
        held: [N] true for views that are measured on instead of learned from.
    """

    grid: torch.Tensor
    pooled: torch.Tensor
    wanted: torch.Tensor
    labelled: torch.Tensor
    held: torch.Tensor


@dataclass(frozen=True)
class HeadConfig:
    """Settings of the stage.

    Attributes:
        steps: batches.
        batch_size: views a step.
        lr: peak rate.
        stay_weight: of the cosine distance to the linear map's feature.
        scale: s in softmax(s * cos), where it starts.
        seed: of the order.
    """

    steps: int = 300
    batch_size: int = 128
    lr: float = 4e-4
    stay_weight: float = 10.0
    scale: float = 20.0
    seed: int = 1


@torch.inference_mode()
def encode_grids(trunk: Trunk, views: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Runs the trunk on views [3, 224, 224]; grids [N, 320, 7, 7] and pooled features [N, 1280], float16."""
    grids, pooled = [], []
    for start in range(0, len(views), 16):
        grid = trunk.grid(batch_of(views[start : start + 16]))
        grids.append(grid.half().contiguous())
        pooled.append(trunk.pool(grid).half())
    return torch.cat(grids), torch.cat(pooled)


@torch.no_grad()
def start_head(
    visual: TrunkTransformer, classifier: NDArray[np.float32], mean: torch.Tensor, grid_scale: float
) -> None:
    """Sets everything behind the trunk so that the feature is the linear map of (pooled - mean).

    Args:
        visual: the image tower; its trunk is left alone.
        classifier: [1000, 1280].
        mean: [1280], of the pooled features of training photographs.
        grid_scale: root mean square of the grid's numbers, by which the tokens are brought to length.
    """
    features, _ = projection(classifier, visual.proj.shape[0])
    linear = torch.from_numpy(features)
    visual.pooled.weight.copy_(linear.T)
    visual.class_embedding.copy_(-mean @ linear)
    visual.proj.copy_(torch.eye(len(visual.proj)))
    visual.positional_embedding.mul_(0.5)
    visual.positional_embedding[0].zero_()
    torch.nn.init.normal_(visual.patches.weight, std=1 / (grid_scale * visual.patches.in_features**0.5))
    torch.nn.init.zeros_(visual.patches.bias)
    for block in visual.transformer.resblocks:
        for layer in (block.attn.out_proj, block.mlp.c_proj):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)


def head_parameters(visual: TrunkTransformer) -> list[torch.nn.Parameter]:
    """Lists what the stage trains: all behind the trunk but the linear map, its offset and the projection."""
    still = ("conv1.", "pooled.", "class_embedding", "proj")
    return [tensor for name, tensor in visual.named_parameters() if not name.startswith(still)]


def train_head(model: CLIP, grids: Grids, names: torch.Tensor, config: HeadConfig) -> None:
    """Trains the blocks in place, and fits the logit scale; prints progress.

    Args:
        model: the backbone, after `start_head`.
        grids: what to learn from.
        names: [1000, E] unit vectors, the text tower's of the classes' names.
        config: settings.
    """
    visual = model.visual
    for tensor in model.parameters():
        tensor.requires_grad_(False)
    parameters = head_parameters(visual)
    for tensor in parameters:
        tensor.requires_grad_(True)
    scale = torch.tensor(np.log(config.scale), dtype=torch.float32, requires_grad=True)
    groups = [{"params": parameters, "peak": config.lr}, {"params": [scale], "peak": 1e-2}]
    optimizer = AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    rows = torch.nonzero(~grids.held)[:, 0].numpy()
    competing = grids.wanted[grids.labelled & ~grids.held].any(dim=0)
    rng = np.random.default_rng(config.seed)
    print("head 0", measure_head(model, grids, names), flush=True)
    for step in range(config.steps):
        chosen = torch.from_numpy(rng.choice(rows, config.batch_size))
        tokens = visual.tokens(grids.grid[chosen].float(), grids.pooled[chosen].float())
        features = F.normalize(visual.features(tokens), dim=-1)
        linear = tokens[:, 0]
        plain = F.normalize(linear - linear.mean(dim=1, keepdim=True), dim=-1)
        absent = grids.labelled[chosen, None] & ~competing
        log_shares = F.log_softmax((scale.exp() * features @ names.T).masked_fill(absent, -1e4), dim=1)
        loss = -(grids.wanted[chosen].float() * log_shares).sum(dim=1).mean()
        stay = 1 - (features * plain).sum(dim=1).mean()
        optimizer.zero_grad()
        (loss + config.stay_weight * stay).backward()
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / 50) * (1 - step / config.steps)
        optimizer.step()
        if step % 100 == 99:
            print(f"head {step + 1}/{config.steps} loss {loss.item():.3f} stay {stay.item():.3f} "
                  f"scale {scale.exp().item():.1f}", flush=True)  # fmt: skip
    model.logit_scale.data.copy_(scale.detach())
    print(f"head {config.steps}", measure_head(model, grids, names), flush=True)


@torch.inference_mode()
def measure_head(model: CLIP, grids: Grids, names: torch.Tensor) -> dict[str, float]:
    """Gives the share of withheld views that find their class among all names.

    Once by the blocks, once by the linear map alone.
    """
    rows = torch.nonzero(grids.held)[:, 0]
    visual, hits, plain = model.visual, [], []
    for part in rows.split(256):
        tokens = visual.tokens(grids.grid[part].float(), grids.pooled[part].float())
        truth = grids.wanted[part].argmax(dim=1)
        linear = tokens[:, 0] - tokens[:, 0].mean(dim=1, keepdim=True)
        hits.append((visual.features(tokens) @ names.T).argmax(dim=1) == truth)
        plain.append((linear @ names.T).argmax(dim=1) == truth)
    return {
        "blocks": round(torch.cat(hits).float().mean().item(), 4),
        "linear": round(torch.cat(plain).float().mean().item(), 4),
    }
