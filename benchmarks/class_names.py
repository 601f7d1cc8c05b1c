"""Names of classes, the same on both sides of every comparison.

Ten are CIFAR-10's, a hundred Caltech-101's as CoOp's authors use it (one to three words, some of rare
syllables). For other numbers of classes or other lengths, names are made of words that are one token each.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

CIFAR_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

CALTECH_101 = tuple(
    """accordion, airplane, anchor, ant, barrel, bass, beaver, binocular, bonsai, brain, brontosaurus, buddha, butterfly,
    camera, cannon, car side, ceiling fan, cellphone, chair, chandelier, cougar body, cougar face, crab, crayfish,
    crocodile, crocodile head, cup, dalmatian, dollar bill, dolphin, dragonfly, electric guitar, elephant, emu,
    euphonium, ewer, face, ferry, flamingo, flamingo head, garfield, gerenuk, gramophone, grand piano, hawksbill,
    headphone, hedgehog, helicopter, ibis, inline skate, joshua tree, kangaroo, ketch, lamp, laptop, leopard, llama,
    lobster, lotus, mandolin, mayfly, menorah, metronome, minaret, motorbike, nautilus, octopus, okapi, pagoda, panda,
    pigeon, pizza, platypus, pyramid, revolver, rhino, rooster, saxophone, schooner, scissors, scorpion, sea horse,
    snoopy, soccer ball, stapler, starfish, stegosaurus, stop sign, strawberry, sunflower, tick, trilobite, umbrella,
    watch, water lilly, wheelchair, wild cat, windsor chair, wrench, yin yang""".replace("\n", " ").split(",")
)
CALTECH_101 = tuple(" ".join(name.split()) for name in CALTECH_101)

_LEAST_LETTERS = 4
_END_OF_WORD = "</w>"


def known_names(count: int) -> tuple[str, ...]:
    """The names of 10 or of 100 classes.

    Raises:
        ValueError: There is no list of that many.
    """
    for names in (CIFAR_10, CALTECH_101):
        if len(names) == count:
            return names
    raise ValueError(f"there are lists of {len(CIFAR_10)} and {len(CALTECH_101)} names, not of {count}")


def made_names(tokenizer_file: Path, lengths: Sequence[int], count: int, seed: int = 0) -> tuple[str, ...]:
    """Different names whose token counts repeat `lengths` again and again.

    Args:
        tokenizer_file: A bundle's `tokenizer.json`.
        lengths: Tokens of the first names, each at least 1.
        count: How many names.
        seed: Of the words' order.
    """
    vocabulary = json.loads(tokenizer_file.read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(
        word.removesuffix(_END_OF_WORD)
        for word in vocabulary
        if word.endswith(_END_OF_WORD)
        and word.isascii()
        and word.removesuffix(_END_OF_WORD).isalpha()
        and len(word) >= _LEAST_LETTERS + len(_END_OF_WORD)
    )
    rng = random.Random(seed)
    rng.shuffle(words)
    names: list[str] = []
    for index in range(count):
        extra = [rng.choice(words) for _ in range(lengths[index % len(lengths)] - 1)]
        names.append(" ".join([words[index % len(words)], *extra]))
    return tuple(names)
