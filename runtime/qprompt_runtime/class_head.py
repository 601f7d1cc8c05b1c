"""From image features to probabilities: the classifier on top of both towers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qprompt_runtime.arrays import Array


def softmax(logits: Array, out: Array | None = None) -> Array:
    """Row-wise softmax of float32 [N,C]; `out` takes it, and may be `logits`."""
    shares: Array = np.subtract(logits, logits.max(axis=1, keepdims=True), out=out)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


_FEW = 8


def cosines(image_features: Array, rows: Array) -> Array:
    """Products of unit rows, float32 [B,E] and [C,E]: float32 [B,C].

    Those of few photos are left to one thread. numpy's matrix library would take its own, and these look for
    more work for 10 ms afterwards, on the cores that encode the next photo.
    """
    few = len(image_features) <= _FEW
    products: Array = np.einsum("be,ce->bc", image_features, rows) if few else image_features @ rows.T
    return products


@dataclass(frozen=True)
class ClassHead:
    """Classes as image features meet them.

    Attributes:
        features: float32 [C,E], rows w_c of length 1.
        offsets: float32 [C], b_c; zeros but for classes that were tuned with one.
        logit_scale: s.
    """

    features: Array
    offsets: Array
    logit_scale: float

    def scores(self, image_features: Array) -> Array:
        """cos(x, w_c) + b_c of unit image features [B,E]: float32 [B,C]."""
        scores: Array = cosines(image_features, self.features) + self.offsets
        return scores

    def probabilities(self, image_features: Array) -> Array:
        """softmax(s * scores) of unit image features [B,E]: float32 [B,C]."""
        return softmax(np.float32(self.logit_scale) * self.scores(image_features))
