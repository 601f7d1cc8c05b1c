"""open_clip's image tower in PyTorch, float32, timed in a process of its own.

    python -m benchmarks.torch_images --model ViT-B-16 --batch 1 --repeats 10 --threads 2

Prints one JSON line: `photos`, seconds a photo of every run (one run before them is not counted).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch

from benchmarks.torch_coop import load


def main() -> None:
    """Time one model at one batch size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = load(options.model)
    model: Any = source.model
    torch.manual_seed(0)
    pixels = torch.randn(options.batch, 3, *source.transform.size)
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + options.repeats):
            started = time.perf_counter()
            model.encode_image(pixels)
            seconds.append((time.perf_counter() - started) / options.batch)
    print(json.dumps({"photos": seconds[1:]}))


if __name__ == "__main__":
    main()
