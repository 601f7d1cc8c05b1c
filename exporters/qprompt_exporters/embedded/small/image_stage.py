"""The trunk learns to see small, blurred and drawn photos as it sees sharp ones.

EfficientNet-Lite0 recognises 87% of sharp training photographs and 22% of the same ones at 32 pixels; cameras
blur, and thumbnails are small. A batch has two losses, both in the space of ImageNet's classifier. The
classifier is frozen, so that class names keep their places:

- sharp photographs (one of each of 940 classes): the trunk's answer to a worse view of a crop is trained
  towards the original trunk's answer to the crop itself, logits (cross-entropy with soft targets) and pooled
  features (cosine);
- Tiny ImageNet: cross-entropy of the true class among its 200 classes alone; the other 800 logits are not
  used.

The first stages, which see edges and textures, stay as they were.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qprompt_exporters.embedded.checkpoint import load_optimizer, save_checkpoint
from qprompt_exporters.embedded.small.trunk import Trunk
from qprompt_exporters.embedded.small.views import batch_of, centre, coarse, crop, worsen

EMA_DECAY = 0.995
SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class ImageConfig:
    """Settings of the stage; only `steps` may change when a run is resumed.

    Attributes:
        steps: length of the schedule.
        first_stage: the trunk's stages before this one stand still.
        photos: sharp photographs a step.
        thumbnails: Tiny ImageNet's images a step.
        lr: peak step of a weight, as a share of its tensor's root mean square.
        feature_weight: of the pooled features' cosine beside the logits.
        hold_out: every so many-th class of Tiny ImageNet, and photograph, is measured on instead.
        seed: of order and views.
    """

    steps: int = 1700
    first_stage: int = 2
    photos: int = 12
    thumbnails: int = 20
    lr: float = 1.5e-3
    feature_weight: float = 4.0
    hold_out: int = 10
    seed: int = 1

    def rate(self, step: int) -> float:
        """Gives the factor on the learning rate: a short rise, then half a cosine."""
        return min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


@dataclass(frozen=True)
class ImageData:
    """What the stage learns from.

    Attributes:
        photos: images [3, H, W] uint8.
        photo_classes: their rows of the classifier.
        thumbnails: [N, 3, 64, 64] uint8.
        labels: [N], places in `label_classes`.
        label_classes: rows of the classifier.
    """

    photos: list[torch.Tensor]
    photo_classes: torch.Tensor
    thumbnails: torch.Tensor
    labels: NDArray[np.int64]
    label_classes: torch.Tensor


class ImageStage:
    """A run with all that its checkpoint has to hold."""

    def __init__(
        self,
        trunk: Trunk,
        classifier: tuple[torch.Tensor, torch.Tensor],
        data: ImageData,
        config: ImageConfig,
    ) -> None:
        self.config, self.data = config, data
        self.weight, self.bias = classifier
        self.teacher, self.trunk = trunk, Trunk()
        self.trunk.load_state_dict(trunk.state_dict())
        for model in (self.teacher, self.trunk):
            model.eval().to(memory_format=torch.channels_last)
        self.average = AveragedModel(self.trunk, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
        moving = [(name, tensor) for name, tensor in self.trunk.named_parameters() if self._moves(name)]
        for name, tensor in self.trunk.named_parameters():
            tensor.requires_grad_(self._moves(name))
        groups = [
            {"params": [tensor], "peak": config.lr * float(tensor.detach().square().mean().sqrt())}
            for _, tensor in moving
        ]
        self.optimizer = AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
        held = np.arange(len(data.photos)) % config.hold_out == 0
        self.kept_photos, self.held_photos = np.flatnonzero(~held), np.flatnonzero(held)
        held_class = data.labels % config.hold_out == 0
        self.kept_thumbnails, self.held_thumbnails = np.flatnonzero(~held_class), np.flatnonzero(held_class)
        self.kept_classes = np.array(
            [place for place in range(len(data.label_classes)) if place % config.hold_out]
        )
        self.step = 0
        self.means = np.zeros(3)  # running means of the losses and of the hits, for the progress line

    def _moves(self, name: str) -> bool:
        part, _, rest = name.partition(".")
        return part == "conv_head" or (
            part == "blocks" and int(rest.split(".")[0]) >= self.config.first_stage
        )

    def logits(self, pooled: torch.Tensor) -> torch.Tensor:
        """Gives ImageNet's logits [B, 1000] of pooled features."""
        return pooled @ self.weight.T + self.bias

    def update(self) -> None:
        """Takes one step. Its photos and views follow from the seed and the step alone."""
        config, data = self.config, self.data
        rng = np.random.default_rng([config.seed, self.step])
        photos = rng.choice(self.kept_photos, config.photos, replace=False)
        sharp = [crop(data.photos[i], 0.2, rng) for i in photos]
        views = [worsen(x, 20, 160, rng) for x in sharp]
        chosen = rng.choice(self.kept_thumbnails, config.thumbnails, replace=False)
        views += [worsen(crop(data.thumbnails[int(i)], 0.5, rng), 20, 64, rng) for i in chosen]
        with torch.inference_mode():
            wanted = self.teacher(batch_of(sharp))
            soft = F.softmax(self.logits(wanted), dim=1)
            middle = wanted.mean(dim=0)
        wanted, soft, middle = wanted.clone(), soft.clone(), middle.clone()
        pooled = self.trunk(batch_of(views))
        seen = pooled[: config.photos]
        photo_loss = -(soft * F.log_softmax(self.logits(seen), dim=1)).sum(dim=1).mean()
        feature_loss = 1 - F.cosine_similarity(seen - middle, wanted - middle, dim=1).mean()
        classes = data.label_classes[self.kept_classes]
        scores = self.logits(pooled[config.photos :])[:, classes]
        truth = torch.from_numpy(np.searchsorted(self.kept_classes, data.labels[chosen]))
        thumbnail_loss = F.cross_entropy(scores, truth)
        loss = photo_loss + thumbnail_loss + config.feature_weight * feature_loss
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * config.rate(self.step)
        self.optimizer.step()
        self.step += 1
        self.average.update_parameters(self.trunk)
        hits = (scores.argmax(dim=1) == truth).float().mean().item()
        now = np.array([photo_loss.item(), feature_loss.item(), hits])
        self.means += (now - self.means) * max(0.01, 1 / self.step)

    @torch.inference_mode()
    def measure(self, trunk: torch.nn.Module) -> dict[str, float]:
        """Gives top-1 on images that were kept away from training.

        They are photographs (1,000 names) and thumbnails (the withheld classes).
        """
        figures, rng = {}, np.random.default_rng(0)
        views = [centre(self.data.photos[i]) for i in self.held_photos]
        truth = self.data.photo_classes[self.held_photos]
        for side in (0, 64, 32):
            seen = [coarse(x, side, rng) if side else x for x in views]
            pooled = torch.cat([trunk(batch_of(seen[i : i + 16])) for i in range(0, len(seen), 16)])
            hits = self.logits(pooled).argmax(dim=1) == truth
            figures[f"photos {side or 'sharp'}"] = hits.float().mean().item()
        rows = self.held_thumbnails[:: max(1, len(self.held_thumbnails) // 200)]
        views = [centre(self.data.thumbnails[int(i)]) for i in rows]
        places = np.unique(self.data.labels[self.held_thumbnails])
        truth = torch.from_numpy(np.searchsorted(places, self.data.labels[rows]))
        for side in (64, 32):
            seen = [coarse(x, side, rng) if side < 64 else x for x in views]
            pooled = torch.cat([trunk(batch_of(seen[i : i + 16])) for i in range(0, len(seen), 16)])
            hits = self.logits(pooled)[:, self.data.label_classes[places]].argmax(dim=1) == truth
            figures[f"thumbnails {side}"] = hits.float().mean().item()
        return figures

    def save(self, path: Path) -> None:
        """Writes the checkpoint; a kill at any moment leaves the old one or the new one."""
        state = {
            "trunk": self.trunk.state_dict(), "average": self.average.state_dict(), "step": self.step,
            "optimizer": self.optimizer.state_dict(), "means": self.means.tolist(),
        }  # fmt: skip
        save_checkpoint(state, path)
        save_checkpoint(self.average.module.state_dict(), path.with_name("trunk.pt"))

    def load(self, path: Path) -> None:
        """Takes up a checkpoint; the rates come from this run's own settings."""
        state = torch.load(path, weights_only=True)
        self.trunk.load_state_dict(state["trunk"])
        self.average.load_state_dict(state["average"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.step, self.means = state["step"], np.array(state["means"])

    def run(self, out: Path, measure_every: int = 500) -> None:
        """Trains from wherever the run stands to the end of its schedule.

        `out` receives `image.pt` and `trunk.pt`.
        """
        path, first = out / "image.pt", self.step
        started = saved = time.monotonic()
        while self.step < self.config.steps:
            self.update()
            if self.step % 20 == 0:
                left = (time.monotonic() - started) / (self.step - first) * (self.config.steps - self.step)
                soft, features, hits = self.means
                print(f"image {self.step}/{self.config.steps} photos {soft:.3f} features {features:.3f} "
                      f"thumbnails {hits:.1%} {left / 60:.0f} min left", flush=True)  # fmt: skip
            if self.step % measure_every == 0 or self.step == self.config.steps:
                figures = self.measure(self.average.module)
                print("image", self.step, {k: round(v, 3) for k, v in figures.items()}, flush=True)
            if time.monotonic() - saved > SAVE_SECONDS or self.step == self.config.steps:
                self.save(path)
                saved = time.monotonic()
