"""Where the text tower has to point: a place in the image tower's space for every common noun.

No image is needed for it. ImageNet's classifier holds a weight vector for each of 1,000 names, and their
means over WordNet's descendants stand for the kinds above them: prototypes of some 1,600 meanings. Kernel
ridge regression carries them over to the other 48,000 nouns. Two nouns are alike if the sentence encoder says
so of their dictionary entries (a Gaussian kernel), if their names are (another), or if WordNet has them under
a common kind that says much (Lin 1998: the information content of what two meanings share, over that of
each). How the kernels were chosen: LOG.md, on names withheld.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse
from timm.data import ImageNetInfo

from qprompt_exporters.embedded.wordnet import Noun, Synset, kind_of
from qprompt_runtime.arrays import Array

MOST_DESCENDANTS = 150
"""Kinds with more classes below them than this mean nothing that can be seen."""
GLOSS_SHARE, NAME_SHARE, TREE_SHARE = 0.6, 0.1, 0.3
GAUSSIAN_WIDTH = 1.5  # gamma in exp(-gamma |a - b|^2) of unit vectors
TREE_POWER = 3
PENALTY = 0.05


def imagenet_classes() -> list[str]:
    """Lists the WordNet ids of ImageNet's 1,000 classes, in the order of the classifier's rows."""
    return list(ImageNetInfo().label_names())


@dataclass(frozen=True)
class Prototypes:
    """Meanings whose place is known.

    Attributes:
        nouns: one name of each; a class has several names, and stands there once for each.
        vectors: [N, D], the classifier's weights of a class, centred, or a kind's mean over the classes below
            it.
        weights: [N], how much each counts in the regression.
    """

    nouns: list[Noun]
    vectors: Array
    weights: Array


class Tree:
    """WordNet's nouns as vectors whose products are Lin's similarity."""

    def __init__(self, synsets: dict[str, Synset]) -> None:
        self.above: dict[str, frozenset[str]] = {}
        for wnid in synsets:
            self._climb(wnid, synsets)
        counts: dict[str, int] = dict.fromkeys(synsets, 0)
        for above in self.above.values():
            for node in above:
                counts[node] += 1
        content = {wnid: -np.log(count / len(synsets)) for wnid, count in counts.items()}
        self.gain = {
            wnid: max(content[wnid] - max((content[p] for p in synset.parents), default=0.0), 1e-3)
            for wnid, synset in synsets.items()
        }
        self.column = {wnid: i for i, wnid in enumerate(synsets)}

    def _climb(self, wnid: str, synsets: dict[str, Synset]) -> frozenset[str]:
        if wnid not in self.above:
            parents = (self._climb(parent, synsets) for parent in synsets[wnid].parents)
            self.above[wnid] = frozenset({wnid}).union(*parents)
        return self.above[wnid]

    def vectors(self, wnids: Sequence[str]) -> scipy.sparse.csr_matrix:
        """Gives unit vectors [N, synsets], sparse: each kind above a meaning by the root of what it adds."""
        rows = [row for row, wnid in enumerate(wnids) for _ in self.above[wnid]]
        nodes = [node for wnid in wnids for node in self.above[wnid]]
        values = np.sqrt([self.gain[node] for node in nodes])
        shape = (len(wnids), len(self.column))
        matrix = scipy.sparse.csr_matrix((values, (rows, [self.column[n] for n in nodes])), shape)
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)))[:, 0]
        return scipy.sparse.diags(1 / lengths) @ matrix


def known_prototypes(synsets: dict[str, Synset], tree: Tree, classifier: Array) -> Prototypes:
    """Collects the prototypes.

    Args:
        synsets: WordNet.
        tree: the same as vectors.
        classifier: [1000, D] weights, one row a class.
    """
    wnids = imagenet_classes()
    centred = classifier - classifier.mean(axis=0)
    below: dict[str, list[int]] = {}
    for row, wnid in enumerate(wnids):
        for node in tree.above[wnid] - {wnid}:
            below.setdefault(node, []).append(row)
    nouns, vectors, weights = [], [], []
    for row, wnid in enumerate(wnids):
        for name in synsets[wnid].names:
            nouns.append(_noun(name, wnid, synsets))
            vectors.append(centred[row])
            weights.append(1 / len(synsets[wnid].names))
    for node in sorted(below):
        if len(below[node]) <= MOST_DESCENDANTS and node not in wnids:
            nouns.append(_noun(synsets[node].names[0], node, synsets))
            vectors.append(centred[below[node]].mean(axis=0))
            weights.append(1.0 if len(below[node]) > 1 else 0.5)
    return Prototypes(nouns, np.stack(vectors), np.array(weights, np.float32))


def _noun(name: str, wnid: str, synsets: dict[str, Synset]) -> Noun:
    return Noun(name, wnid, kind_of(synsets[wnid], synsets), synsets[wnid].gloss)


@dataclass(frozen=True)
class NounViews:
    """What is known of N nouns.

    Attributes:
        gloss: [N, 384] unit vectors, the sentence encoder's of the dictionary entries, centred over the
            vocabulary.
        name: [N, 256] unit vectors of the names alone, likewise.
        tree: [N, synsets] unit vectors.
    """

    gloss: Array
    name: Array
    tree: scipy.sparse.csr_matrix


def regress(known: NounViews, prototypes: Prototypes, wanted: NounViews, block: int = 4000) -> Array:
    """Carries the prototypes over to other nouns by kernel ridge regression, [M, D]."""
    kernel = _kernel(known, known)
    solved = scipy.linalg.solve(
        kernel + PENALTY * np.diag(1 / prototypes.weights), prototypes.vectors, assume_a="pos"
    ).astype(np.float32)
    parts = []
    for start in range(0, len(wanted.gloss), block):
        rows = slice(start, start + block)
        part = NounViews(wanted.gloss[rows], wanted.name[rows], wanted.tree[rows])
        parts.append(_kernel(part, known) @ solved)
    return np.concatenate(parts)


def _kernel(a: NounViews, b: NounViews) -> Array:
    def gaussian(x: Array, y: Array) -> Array:
        return np.exp(-GAUSSIAN_WIDTH * (2 - 2 * x @ y.T))

    lin = np.asarray((a.tree @ b.tree.T).todense(), np.float32)
    return (
        GLOSS_SHARE * gaussian(a.gloss, b.gloss)
        + NAME_SHARE * gaussian(a.name, b.name)
        + TREE_SHARE * lin**TREE_POWER
    )


def projection(classifier: Array, width: int) -> tuple[Array, Array]:
    """Splits the classifier into a linear map of pooled features and a place for each class.

    Both have `width` numbers. W = U S V^T over classes centred; features go by S^(1/2) V^T, classes by U
    S^(1/2), so that a cosine of both is a logit up to lengths. The result has width - 1 dimensions, turned so
    that every vector sums to zero: a layer normalisation leaves its direction alone.

    Args:
        classifier: [1000, D].
        width: numbers of the embedding.

    Returns:
        Maps [D, width] of features, and of centred class weights.
    """
    centred = classifier - classifier.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    roots, axes = np.sqrt(sizes[: width - 1]), axes[: width - 1]
    basis = scipy.linalg.null_space(
        np.ones((1, width))
    ).T  # [width - 1, width], orthonormal rows that sum to zero
    features, classes = (axes.T * roots) @ basis, (axes.T / roots) @ basis
    return features.astype(np.float32), classes.astype(np.float32)
