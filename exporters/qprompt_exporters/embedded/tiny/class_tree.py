"""What is said of a training image: its class's names, and the names of every kind of thing that it is."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from qprompt_exporters.embedded import wordnet
from qprompt_exporters.embedded.captions import TEMPLATES
from qprompt_exporters.embedded.wordnet import Noun, Synset

# Names of everything and of nothing that can be seen; a cut of the tree never stops at them.
_TOO_GENERAL = frozenset(
    {"entity", "physical entity", "abstraction", "object", "whole", "matter", "thing", "causal agent", "unit",
     "part", "substance", "artifact", "instrumentality", "living thing", "organism", "chordate", "attribute",
     "relation", "psychological feature", "group", "state", "event", "act", "process", "physical process"}
)  # fmt: skip
_NAMES_A_NODE = 4


@dataclass(frozen=True)
class ClassTree:
    """The training classes (leaves, in label order) under their WordNet ancestors.

    Attributes:
        nodes: ids; the first `leaves` of them are the classes.
        names: the names of each node, most common first.
        children: rows of `nodes` below each node.
        leaf_sets: for each node, the labels below it.
        root: the top node's row.
    """

    nodes: list[str]
    names: list[list[str]]
    children: list[list[int]]
    leaf_sets: list[list[int]]
    root: int
    leaves: int


def build_tree(class_names: dict[str, list[str]], synsets: dict[str, Synset]) -> ClassTree:
    """Builds the tree of first parents above the classes."""
    wnids = list(class_names)
    inner = wordnet.tree_children(wnids, synsets)
    nodes = wnids + sorted(set(inner) - set(wnids))
    row = {wnid: i for i, wnid in enumerate(nodes)}
    children = [sorted(row[child] for child in inner.get(wnid, ())) for wnid in nodes]
    names = [_english(class_names.get(wnid, synsets[wnid].names))[:_NAMES_A_NODE] for wnid in nodes]
    leaf_sets: list[list[int]] = [[] for _ in nodes]
    for label, wnid in enumerate(wnids):
        for node in [wnid, *wordnet.ancestors(wnid, synsets)]:
            leaf_sets[row[node]].append(label)
    root = next(i for i, wnid in enumerate(nodes) if not synsets[wnid].parents)
    return ClassTree(nodes, names, children, leaf_sets, root, len(wnids))


def _english(names: Sequence[str]) -> list[str]:
    """Keeps the first name and those after it that are no Latin or proper ones."""
    return [names[0], *(name for name in names[1:] if name.islower())]


def random_cut(tree: ClassTree, stop: float, rng: random.Random) -> tuple[list[int], torch.Tensor]:
    """Cuts the tree at random heights: {bird, dog, truck, goldfish, ...}, a task such as users will set.

    Args:
        tree: the classes.
        stop: the chance of stopping at a node instead of going on to its children.
        rng: the source of randomness.

    Returns:
        Rows of the chosen nodes, each class under exactly one of them, and for each class [leaves] that one's
        place.
    """
    chosen: list[int] = []
    place = torch.zeros(tree.leaves, dtype=torch.int64)
    waiting = [tree.root]
    while waiting:
        node = waiting.pop()
        general = tree.names[node][0] in _TOO_GENERAL
        if not tree.children[node] or (not general and rng.random() < stop):
            place[tree.leaf_sets[node]] = len(chosen)
            chosen.append(node)
        else:
            waiting += tree.children[node]
    return chosen, place


def node_captions(tree: ClassTree, count: int, rng: random.Random) -> list[list[str]]:
    """Writes `count` captions for every node; the first is the commonest name in the first template."""
    return [
        [TEMPLATES[0].format(names[0])]
        + [rng.choice(TEMPLATES).format(rng.choice(names)) for _ in range(count - 1)]
        for names in tree.names
    ]


def read_wordnet(folder: Path, tree_names: dict[str, list[str]]) -> tuple[ClassTree, list[Noun]]:
    """Reads WordNet once for both uses: the tree above the classes, and the noun vocabulary."""
    synsets = wordnet.read_synsets(folder)
    return build_tree(tree_names, synsets), wordnet.read_nouns(folder, synsets)
