"""Trains the backbone: `python -m qprompt_exporters.embedded.tiny.train --data DIR --out DIR`.

Stage 1 teaches the text tower words, stage 2 teaches the image tower to see them. Everything lies in `--out`:
what the sentence encoder said, the decoded images, `text.safetensors` after stage 1, `checkpoint.pt` of stage
2 (written every few minutes through a rename; the same command goes on from it) and `weights.safetensors`,
the moving average of the weights in float16, which takes the place of the file beside this module when it is
better.
"""

import argparse
import json
import os
import random
import time
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qprompt_exporters.embedded.backbones import save_weights
from qprompt_exporters.embedded.checkpoint import load_optimizer, save_checkpoint
from qprompt_exporters.embedded.data import cache_training_images, read_class_names
from qprompt_exporters.embedded.text_tower import text_parameters
from qprompt_exporters.embedded.tiny import image_stage
from qprompt_exporters.embedded.tiny.augment import augment, batches, normalise
from qprompt_exporters.embedded.tiny.class_tree import ClassTree, read_wordnet
from qprompt_exporters.embedded.tiny.image_stage import CaptionBank, ImageConfig, encode_images
from qprompt_exporters.embedded.tiny.model import build_tiny
from qprompt_exporters.embedded.tiny.text_stage import train_text
from qprompt_exporters.embedded.wordnet import Noun

EMA_DECAY = 0.985
EMA_STEPS = 8
REFRESH_STEPS = 1000
SAVE_SECONDS = 180.0


def text_targets(out: Path, nouns: list[Noun], model: CLIP) -> tuple[torch.Tensor, np.ndarray]:
    """Asks the sentence encoder once and keeps its answers in `out`.

    Returns:
        Targets of the nouns [N, E] and first values of the token table [49408, width].
    """
    targets_file, rows_file = out / "targets.npy", out / "rows.npy"
    if not (targets_file.exists() and rows_file.exists()):
        from qprompt_exporters.embedded import teacher  # needs transformers and the encoder's package

        words = [word.replace("</w>", "") for _, word in sorted(SimpleTokenizer().decoder.items())]
        np.save(targets_file, teacher.noun_targets(nouns, model.text_projection.shape[1]))
        np.save(rows_file, teacher.token_rows(words, model.token_embedding.embedding_dim))
    return torch.from_numpy(np.load(targets_file)).float(), np.load(rows_file)


class Run:
    """Stage 2 with all that a checkpoint has to hold."""

    def __init__(self, model: CLIP, tree: ClassTree, config: ImageConfig) -> None:
        self.model = model
        self.config = config
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY), use_buffers=True)
        self.optimizers = image_stage.make_optimizers(model, config)
        self.rng = random.Random(config.seed)
        self.noise = torch.Generator().manual_seed(config.seed)
        self.bank = CaptionBank(tree, self.rng)
        self.step = 0
        self.loss = self.hits = 0.0  # running means, for the progress line

    def save(self, path: Path) -> None:
        """Writes the checkpoint; a kill at any moment leaves the old one or the new one."""
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "step": self.step,
            "loss": self.loss, "hits": self.hits,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "bank": self.bank.features, "rng": self.rng.getstate(), "noise": self.noise.get_state(),
            "config": asdict(self.config),
        }  # fmt: skip
        save_checkpoint(state, path)
        save_weights(self.average.module.state_dict(), path.with_name("weights.safetensors"))

    def load(self, path: Path) -> None:
        """Takes up a checkpoint; the rates come from this run's own settings."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, saved)
        self.bank.features = state["bank"]
        version, words, gauss = state["rng"]
        self.rng.setstate((version, tuple(words), gauss))
        self.noise.set_state(state["noise"])
        self.step, self.loss, self.hits = state["step"], state["loss"], state["hits"]

    def update(self, features: torch.Tensor, labels: torch.Tensor, rate: float, nodes: torch.Tensor,
               trained: torch.Tensor, extra: torch.Tensor | None) -> None:  # fmt: skip
        """Takes one step from a batch's features [B, E] with labels [B]."""
        scale = self.model.logit_scale.exp()
        loss, hits = image_stage.image_loss(features, labels, nodes, scale, self.bank, trained)
        self.model.zero_grad()
        (loss if extra is None else loss + extra).backward()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.step()
        self.step += 1
        if self.step % EMA_STEPS == 0:
            self.average.update_parameters(self.model)
        share = max(0.02, 1 / self.step)
        self.loss += (loss.item() - self.loss) * share
        self.hits += (hits.item() - self.hits) * share


@torch.inference_mode()
def unseen_accuracy(
    model: CLIP, bank: CaptionBank, images: torch.Tensor, labels: torch.Tensor, every: int
) -> float:
    """Gives the share of images of withheld classes that find their name among those names.

    Every `every`-th class is withheld.
    """
    rows = torch.nonzero(labels % every == 0)[:: 1 if len(labels) < 5000 else 10, 0]
    names = bank.features[: bank.tree.leaves : every, 0]
    model.eval()
    parts = [encode_images(model, normalise(images[r].float() / 255)) for r in rows.split(250)]
    return ((torch.cat(parts) @ names.T).argmax(dim=1) == labels[rows] // every).float().mean().item()


def train_images(
    run: Run, images: torch.Tensor, labels: torch.Tensor, nouns: list[Noun], targets: torch.Tensor, out: Path
) -> None:
    """Runs stage 2 from wherever `run` stands to the end of its schedule."""
    config, model, tokenizer = run.config, run.model, SimpleTokenizer()
    model.token_embedding.requires_grad_(False)
    text = text_parameters(model, table=False)
    rows = config.kept(labels.numpy())
    trained = image_stage.trained_classes(config, run.bank.tree.leaves)
    per_epoch = len(rows) // config.batch_size
    steps, first = round(config.epochs * per_epoch), run.step
    started = saved = time.monotonic()
    model.train()
    while run.step < steps:
        epoch, place = divmod(run.step, per_epoch)
        for chosen in batches(rows, config.batch_size, epoch, config.seed, place):
            if run.step % REFRESH_STEPS == 0 or not len(run.bank.features):
                run.bank.refresh(model, tokenizer)
            now = run.step / per_epoch
            pixels = augment(images[chosen], config.image_side(now), run.noise)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            features = encode_images(model, pixels, blocks=now >= config.blocks_from)
            learns_text = config.text_every > 0 and run.step % config.text_every == 0
            for parameter in text:
                parameter.requires_grad_(learns_text)
            nodes = run.bank.encode(model, tokenizer) if learns_text else run.bank.draw()
            extra = image_stage.hold_text(model, tokenizer, nouns, targets, run.rng) if learns_text else None
            run.update(features, labels[chosen], config.rate(run.step, steps), nodes, trained, extra)
            if run.step % 50 == 0:
                left = (time.monotonic() - started) / (run.step - first) * (steps - run.step)
                scale = model.logit_scale.exp().item()
                print(
                    f"epoch {run.step / per_epoch:.2f}/{config.epochs:g} loss {run.loss:.3f} "
                    f"hits {run.hits:.1%} scale {scale:.1f} {left / 60:.0f} min left",
                    flush=True,
                )
            if time.monotonic() - saved > SAVE_SECONDS or run.step == steps:
                run.save(out / "checkpoint.pt")
                saved = time.monotonic()
            if run.step >= steps:
                break
        if config.hold_out:
            unseen = unseen_accuracy(run.average.module, run.bank, images, labels, config.hold_out)
            print(f"unseen classes: {unseen:.3f}", flush=True)


def main() -> None:
    """Parses the command line and runs both stages."""
    parser = argparse.ArgumentParser(description="Train the embedded backbone.")
    parser.add_argument("--data", type=Path, required=True, help="folder with tiny-imagenet-train.zip")
    parser.add_argument(
        "--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder with data.noun"
    )
    parser.add_argument("--out", type=Path, required=True, help="takes caches, checkpoints and weights")
    parser.add_argument("--text-steps", type=int, default=1600, help="length of stage 1")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    for field in fields(ImageConfig):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default)
    args = parser.parse_args()
    config = ImageConfig(**{field.name: getattr(args, field.name) for field in fields(ImageConfig)})
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(config.seed)

    class_names = read_class_names(args.data)
    tree, nouns = read_wordnet(args.wordnet, class_names)
    model = build_tiny()
    targets, rows = text_targets(args.out, nouns, model)
    if not (args.out / "text.safetensors").exists():
        train_text(model, nouns, targets, rows, args.text_steps, config.seed)
        save_file(model.state_dict(), args.out / "text.safetensors.part")
        (args.out / "text.safetensors.part").replace(args.out / "text.safetensors")
    model.load_state_dict(load_file(args.out / "text.safetensors"))
    images, labels = cache_training_images(args.data, args.out, list(class_names))
    image_stage.silence_blocks(model)
    run = Run(model.to(memory_format=torch.channels_last), tree, config)
    if (args.out / "checkpoint.pt").exists():
        run.load(args.out / "checkpoint.pt")
    (args.out / "config.json").write_text(json.dumps(asdict(config), indent=2))
    train_images(run, images, labels, nouns, targets, args.out)


if __name__ == "__main__":
    main()
