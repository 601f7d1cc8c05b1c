"""The text tower learns to point where `targets` says.

It learns every noun of the vocabulary, the known prototypes most often. It starts as `tiny`'s, which learned
a sentence encoder's idea of the same nouns, so that names it is never taught still land among their kind.
"""

import random
import time
from pathlib import Path

import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch.optim import AdamW

from qprompt_exporters.embedded.backbones import EMBEDDED
from qprompt_exporters.embedded.captions import encode_captions, noun_caption
from qprompt_exporters.embedded.checkpoint import save_checkpoint
from qprompt_exporters.embedded.text_tower import TEXT_PARTS, distill_loss, text_parameters
from qprompt_exporters.embedded.wordnet import Noun

BATCH = 256
KNOWN_SHARE = 0.4
"""Of a batch: names of prototypes, whose places are measured; the others' are guessed."""
PEAK_RATE = 1.5e-3
SAVE_SECONDS = 120.0


def start_from_tiny(model: CLIP) -> None:
    """Copies `tiny`'s text tower, which has the same shape, into `model`."""
    state = {
        name: tensor
        for name, tensor in EMBEDDED["tiny"].load().state_dict().items()
        if name.startswith(TEXT_PARTS)
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or any(name.startswith(TEXT_PARTS) for name in missing):
        raise ValueError(f"the text towers differ: missing {missing}, unexpected {unexpected}")


class TextStage:
    """A run with all that its checkpoint has to hold.

    Args:
        model: the backbone; its text tower is trained in place.
        nouns: N nouns.
        targets: [N, E] unit vectors; every twentieth noun is withheld to measure on.
        known: K nouns with prototypes.
        prototypes: [K, E] unit vectors.
        steps: batches of captions.
        seed: of captions and choices.
    """

    def __init__(
        self, model: CLIP, nouns: list[Noun], targets: torch.Tensor, known: list[Noun],
        prototypes: torch.Tensor, steps: int, seed: int = 1,
    ) -> None:  # fmt: skip
        self.model, self.steps, self.seed = model, steps, seed
        names = {noun.name for noun in known}
        order = random.Random(seed).sample(range(len(nouns)), len(nouns))
        held = [row for row in order if nouns[row].name not in names][: len(nouns) // 20]
        kept = sorted(set(order) - set(held))
        self.nouns, self.targets = [nouns[row] for row in kept], targets[kept]
        self.held, self.held_targets = [nouns[row] for row in held[:1000]], targets[held[:1000]]
        self.known, self.prototypes = known, prototypes
        self.tokenizer = SimpleTokenizer()
        self.parameters = text_parameters(model, table=True)
        self.optimizer = AdamW(self.parameters, lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
        self.step = 0

    def draw(self) -> tuple[list[str], torch.Tensor]:
        """Draws a batch, by seed and step alone: captions, and their targets [BATCH, E]."""
        rng = random.Random(f"{self.seed}/{self.step}")
        of_known = round(BATCH * KNOWN_SHARE)
        rows = [rng.randrange(len(self.known)) for _ in range(of_known)]
        texts = [noun_caption(self.known[row], rng) for row in rows]
        wanted = [self.prototypes[rows]]
        rows = [rng.randrange(len(self.nouns)) for _ in range(BATCH - of_known)]
        texts += [noun_caption(self.nouns[row], rng) for row in rows]
        return texts, torch.cat([*wanted, self.targets[rows]])

    def update(self) -> float:
        """Takes one step; gives its loss."""
        texts, wanted = self.draw()
        loss = distill_loss(encode_captions(self.model, self.tokenizer, texts), wanted)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, (self.step + 1) / 100) * (1 - self.step / self.steps)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    @torch.inference_mode()
    def measure(self) -> tuple[float, float]:
        """Gives the mean cosine to the targets: of nouns withheld, and of known names."""
        scores = []
        for nouns, wanted in ((self.held, self.held_targets), (self.known, self.prototypes)):
            parts = [nouns[i : i + 500] for i in range(0, len(nouns), 500)]
            texts = [[f"a photo of a {noun.name}." for noun in part] for part in parts]
            features = torch.cat([encode_captions(self.model, self.tokenizer, part) for part in texts])
            scores.append((features * wanted).sum(dim=1).mean().item())
        return scores[0], scores[1]

    def save(self, path: Path) -> None:
        """Writes the checkpoint; a kill at any moment leaves the old one or the new one."""
        state = {
            "text": {n: t for n, t in self.model.state_dict().items() if n.startswith(TEXT_PARTS)},
            "optimizer": self.optimizer.state_dict(), "step": self.step,
        }  # fmt: skip
        save_checkpoint(state, path)

    def load(self, path: Path) -> None:
        """Takes up a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["text"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def run(self, path: Path) -> None:
        """Trains from wherever the run stands to the end of its schedule, with checkpoints in `path`."""
        first, started = self.step, time.monotonic()
        saved = started
        while self.step < self.steps:
            loss = self.update()
            if self.step % 50 == 0:
                left = (time.monotonic() - started) / (self.step - first) * (self.steps - self.step)
                print(f"text {self.step}/{self.steps} loss {loss:.3f} {left / 60:.0f} min left", flush=True)
            if time.monotonic() - saved > SAVE_SECONDS or self.step == self.steps:
                held, known = self.measure()
                print(
                    f"text {self.step}: cosine {held:.3f} on nouns withheld, {known:.3f} on known names",
                    flush=True,
                )
                self.save(path)
                saved = time.monotonic()
