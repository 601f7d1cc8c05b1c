"""What is said of a noun: its name in templates, the kind of thing it is, or the dictionary's words."""

import random

import torch
from open_clip import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch.func import functional_call

from qprompt_exporters.embedded.wordnet import Noun

TEMPLATES = (
    "a photo of a {}.",
    "{}",
    "a picture of a {}.",
    "a photo of the {}.",
    "a {}.",
    "a close-up photo of a {}.",
    "a small picture of the {}.",
    "this is a {}",
)
_GLOSS_WORDS = 8  # a batch is as long as its longest caption


def noun_caption(noun: Noun, rng: random.Random) -> str:
    """Writes one caption of a noun.

    It is a name in a template, the name and its kind, or the dictionary's words.
    """
    choice = rng.random()
    if choice < 0.2 and noun.kind:
        return rng.choice(TEMPLATES).format(f"{noun.name}, a kind of {noun.kind}")
    if choice < 0.35:
        return " ".join(noun.gloss.split()[:_GLOSS_WORDS])
    return rng.choice(TEMPLATES).format(noun.name)


def encode_captions(model: CLIP, tokenizer: SimpleTokenizer, texts: list[str]) -> torch.Tensor:
    """Runs the text tower on no more positions than the longest text has; the causal mask makes this exact.

    Args:
        model: a CLIP with a causal text tower.
        tokenizer: its tokenizer.
        texts: N sentences.

    Returns:
        [N, embed_dim] unit vectors.
    """
    tokens = tokenizer(texts, context_length=model.context_length)
    length = int(tokens.argmax(dim=1).max()) + 1
    shorter = {
        "positional_embedding": model.positional_embedding[:length],
        "attn_mask": model.attn_mask[:length, :length],
    }
    return functional_call(
        _TextOnly(model), {f"model.{k}": v for k, v in shorter.items()}, tokens[:, :length]
    )


class _TextOnly(torch.nn.Module):
    """Gives `functional_call` a module whose forward is the text tower alone."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Encodes [N, L] tokens to [N, embed_dim]."""
        return self.model.encode_text(tokens, normalize=True)
