"""CoOp in PyTorch on real photos, from the start of the process; see `torch_coop` for the two variants.

    python -m benchmarks.torch_photos --model small --variant trimmed --train DIR --test DIR [--threads 2]

`trimmed` (careful) decodes and encodes each photo once, and trains for all of the 50 epochs. `authors`
(careless) decodes, crops at random, flips and encodes the photos of each batch anew; it runs `--steps` steps,
and `seconds_left` is what the others would take at their median. Batches of 32; SGD at 0.002 with a cosine
after one epoch of warm-up, as in the authors' code.

Prints one JSON line: `top1` on the test photos (none for `authors`), `bytes` of the context that torch.save
writes, `steps` in all, and `seconds_left`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.torch_coop import LEARNING_RATE, VARIANTS, CustomCLIP, load
from qprompt_runtime.images import ImageTransform, augment, read_image, to_pixels

EPOCHS, BATCH, WARM_UP_RATE = 50, 32, 1e-5
_SEED = 0


def decoded(path: Path, transform: ImageTransform, rng: np.random.Generator | None = None) -> torch.Tensor:
    """Pixels [3,H,W] of a photo, cropped and flipped at random where a generator is given."""
    with path.open("rb") as file:
        image = read_image(file, transform)
    pixels = to_pixels(image, transform) if rng is None else augment(image, transform, rng)
    return torch.from_numpy(np.ascontiguousarray(pixels))


def photos_in(folder: Path, names: list[str]) -> tuple[list[Path], torch.Tensor]:
    """Paths and labels [N]."""
    paths = [path for name in names for path in sorted((folder / name).iterdir())]
    return paths, torch.tensor([names.index(path.parent.name) for path in paths])


def encoded(model: CustomCLIP, paths: list[Path], transform: ImageTransform) -> torch.Tensor:
    """Features [N,E] of photos."""
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    return torch.cat(
        [model.encode_images(torch.stack([decoded(p, transform) for p in batch])) for batch in batches]
    )


def rate(epoch: int) -> float:
    """Learning rate of an epoch."""
    return WARM_UP_RATE if epoch == 0 else LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))


def train(
    model: CustomCLIP,
    paths: list[Path],
    labels: torch.Tensor,
    transform: ImageTransform,
    *,
    cached: bool,
    most: int,
) -> list[float]:
    """Train; seconds of each step."""
    features = encoded(model, paths, transform) if cached else None
    optimizer = torch.optim.SGD([model.prompts.context], lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    rng, seconds = np.random.default_rng(_SEED), []
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = rate(epoch)
        for chosen in torch.randperm(len(paths)).split(BATCH):
            if len(seconds) == most:
                return seconds
            started = time.perf_counter()
            if features is None:
                pixels = torch.stack([decoded(paths[i], transform, rng) for i in chosen.tolist()])
                seen = model.encode_images(pixels)
            else:
                seen = features[chosen]
            loss = model.loss(seen, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - started)
    return seconds


def accuracy(model: CustomCLIP, paths: list[Path], labels: torch.Tensor, transform: ImageTransform) -> float:
    """Share of photos that are right."""
    with torch.no_grad():
        scores = functional.normalize(encoded(model, paths, transform), dim=-1) @ model.encode_classes().T
    return float((scores.argmax(dim=1) == labels).float().mean())


def main() -> None:
    """Train once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="small")
    parser.add_argument("--variant", choices=VARIANTS, default="trimmed")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6, help="of `authors`")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(_SEED)
    source = load(options.model)
    names = sorted(path.name for path in options.train.iterdir())
    trimmed = options.variant == "trimmed"
    model = CustomCLIP(source, names, trimmed=trimmed)
    paths, labels = photos_in(options.train, names)
    count = EPOCHS * math.ceil(len(paths) / BATCH)
    most = count if trimmed else options.steps
    seconds = train(model, paths, labels, source.transform, cached=trimmed, most=most)
    top1 = accuracy(model, *photos_in(options.test, names), source.transform) if trimmed else None
    buffer = io.BytesIO()
    torch.save(model.prompts.context.detach().clone(), buffer)
    left = (count - len(seconds)) * statistics.median(seconds)
    answer = {
        "top1": top1,
        "bytes": buffer.tell(),
        "steps": count,
        "seconds_left": left,
        "photos": len(paths),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
