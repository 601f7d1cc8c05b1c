"""Does a photo show any of the classes at all? Common nouns compete with them.

    score(x) = 1/k log sum_c exp(k z_c) - a/k log sum_g exp(k cos(x, g))

z_c: the scores of the classes (`class_head`); g: text features of 1,000 common nouns without the classes' own
names; k = 50, a = 0.75. The score is the energy of the classes minus a part of the energy of everything else.
This is NegLabel (Jiang et al., ICLR 2024), without its choice of words and with less weight on them; measured
in `docs/defaults.md`. A photo is accepted if its score reaches the prompt's threshold.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.class_features import kept_features
from qprompt_runtime.class_head import cosines
from qprompt_runtime.errors import BundleError, PromptFileError
from qprompt_runtime.prompt_file import ACCEPT_SHARES, Calibration, ClassName
from qprompt_runtime.small_hash import sha256
from qprompt_runtime.text_features import text_features, text_tower_facts

SHARPNESS, WEIGHT = np.float32(50.0), np.float32(0.75)
"""k and a."""
_AT_ONCE = 50  # more would need the memory of a tuning step
_TEMPLATE = ("a photo of a ", ".")


@functools.cache
def common_nouns() -> tuple[str, ...]:
    """The 1,000 nouns that WordNet's texts use most.

    They name things, animals, plants, food, parts of the body and materials.
    """
    text = Path(__file__).with_name("nouns.txt").read_text(encoding="utf-8")
    return tuple(text.split())


def noun_features(backbone: Backbone, classes: Sequence[ClassName], cache: Path | None = None) -> Array:
    """Text features of the nouns that are no class's name: float32 [G,E], rows of length 1.

    Args:
        backbone: The frozen model.
        classes: The classes that the nouns compete with.
        cache: Folder that keeps them from run to run, where the bundle does not hold them; None keeps
            nothing.

    Raises:
        BundleError: The bundle's file of them is damaged.
    """
    shape = (len(common_nouns()), backbone.manifest.embed_dim)
    if noun_file() in backbone.manifest.files:
        features = _read_nouns(backbone.folder / noun_file(), shape)
    elif cache is None:
        features = encode_nouns(backbone)
    else:
        features = kept_features(cache, _identity(backbone), shape, lambda: encode_nouns(backbone))
    others: Array = features[competing_nouns(classes)]
    return others


def noun_file() -> str:
    """The file of a bundle that holds the features of these very nouns; another list has another name."""
    return f"nouns-{_list_hash()[:8]}.npy"


def encode_nouns(backbone: Backbone) -> Array:
    """Text features of all nouns, from the text tower: float32 [1000,E], rows of length 1."""
    names = [ClassName.from_label(noun) for noun in common_nouns()]
    return text_features(backbone, names, _TEMPLATE, _AT_ONCE)


def _read_nouns(path: Path, shape: tuple[int, int]) -> Array:
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"cannot read the bundle's file {path}: {error}") from error
    if not isinstance(features, np.ndarray) or features.shape != shape or features.dtype != np.float32:
        raise BundleError(
            f"the bundle's file {path} does not hold float32 features of shape {shape}; add or export the "
            "backbone again"
        )
    return features


def _list_hash() -> str:
    return sha256(" ".join(common_nouns()).encode()).hex()


def competing_nouns(classes: Sequence[ClassName]) -> NDArray[np.bool_]:
    """Which of the common nouns are no class's name: bool [1000]."""
    names = {name.text.casefold() for name in classes}
    return np.array([noun not in names for noun in common_nouns()])


def _identity(backbone: Backbone) -> str:
    """What the features of the nouns depend on, in so far as it can differ from run to run."""
    return json.dumps({"nouns": _list_hash(), **text_tower_facts(backbone)}, sort_keys=True)


def known_scores(class_scores: Array, image_features: Array, nouns: Array) -> Array:
    """How much photos look like one of the classes: float32 [B].

    Args:
        class_scores: float32 [B,C], z.
        image_features: float32 [B,E], rows of length 1.
        nouns: float32 [G,E], from `noun_features`.
    """
    return known_beside(class_scores, cosines(image_features, nouns))


def known_beside(class_scores: Array, noun_scores: Array) -> Array:
    """`known_scores`, from the photos' cosines with the nouns: float32 [B,G]."""
    scores: Array = energy(class_scores) - WEIGHT * energy(noun_scores)
    return scores


def energy(scores: Array, sharpness: np.float32 = SHARPNESS) -> Array:
    """1/k log sum exp(k z) of each row: float32 [B], from scores z [B,C] and the sharpness k, above 0."""
    most = scores.max(axis=1)
    sums = np.exp(sharpness * (scores - most[:, None])).sum(axis=1)
    energies: Array = most + np.log(sums) / sharpness
    return energies


def least_score(calibration: Calibration, share: float) -> float:
    """The score that this share of known photos reaches.

    Args:
        calibration: A prompt's, with accept scores.
        share: From 0.8 to 0.99; between the stored shares it is interpolated.

    Raises:
        PromptFileError: The prompt has no accept scores.
        ValueError: The share is out of range.
    """
    if not calibration.accept_scores:
        raise PromptFileError(
            "the prompt file has no scores for 'none of these'; adapt again with the default method and at "
            "least two photos of each class"
        )
    if not ACCEPT_SHARES[0] <= share <= ACCEPT_SHARES[-1]:
        raise ValueError(
            f"accept is {share}, expected a share from {ACCEPT_SHARES[0]} to {ACCEPT_SHARES[-1]}"
        )
    return float(np.interp(share, ACCEPT_SHARES, calibration.accept_scores))
