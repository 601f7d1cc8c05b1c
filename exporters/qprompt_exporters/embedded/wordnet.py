"""WordNet's nouns, read from the database files that Debian's `wordnet-base` installs.

Two uses: the noun vocabulary that the text tower learns (names, with the kind of thing they name and what
the dictionary says of it), and the ancestors of the training classes (a bullfrog is a frog is an animal).
File format: wndb(5WN), https://wordnet.princeton.edu/documentation/wndb5wn.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Lexicographer files (lexnames(5WN)) whose nouns can be photographed: the tops of the tree (person, animal,
# food), animal, artifact, body, food, location, object, person, plant, substance.
CONCRETE_FILES = frozenset({3, 5, 6, 8, 13, 15, 17, 18, 20, 27})
_ANIMAL = 5
_ANIMAL_FIRST = frozenset({13, 18, 27})
_MAX_WORDS = 3


@dataclass(frozen=True)
class Synset:
    """One meaning: its names, the first of them the commonest, and its parents' ids."""

    wnid: str
    file_number: int
    names: tuple[str, ...]
    parents: tuple[str, ...]
    gloss: str


@dataclass(frozen=True)
class Noun:
    """One name of one meaning, with the name of the kind of thing it is (empty at the top)."""

    name: str
    wnid: str
    kind: str
    gloss: str


def read_synsets(folder: Path) -> dict[str, Synset]:
    """Reads `data.noun`: every noun synset by its id (`n` and eight digits)."""
    synsets = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        synset = _parse_synset(fields.split(), gloss)
        synsets[synset.wnid] = synset
    return synsets


def read_nouns(folder: Path, synsets: dict[str, Synset]) -> list[Noun]:
    """Lists lower-case nouns of at most three words, each in its most frequent concrete meaning.

    Nouns without a concrete meaning are kept only where WordNet's tagged texts use them.

    Args:
        folder: where `index.noun` lies.
        synsets: what `read_synsets` gave.

    Returns:
        The nouns in alphabetical order.
    """
    nouns = []
    for line in (folder / "index.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        fields = line.split()
        count = int(fields[2])
        tagged = int(fields[-count - 1])
        wnids = ["n" + offset for offset in fields[-count:]]
        name = fields[0].replace("_", " ")
        wnids = [w for w in wnids if name in synsets[w].names]
        wnid = _photographable(wnids, synsets) or (wnids[0] if wnids and tagged else None)
        if wnid and len(name.split()) <= _MAX_WORDS and name.replace(" ", "").isalpha():
            synset = synsets[wnid]
            nouns.append(Noun(name, wnid, kind_of(synset, synsets), synset.gloss))
    return nouns


def kind_of(synset: Synset, synsets: dict[str, Synset]) -> str:
    """Gives the first name of a meaning's first parent, or an empty string at the top."""
    return synsets[synset.parents[0]].names[0] if synset.parents else ""


def ancestors(wnid: str, synsets: dict[str, Synset]) -> list[str]:
    """Follows the first parents of a meaning up to the top, nearest first, without the meaning itself."""
    path = []
    parents = synsets[wnid].parents
    while parents:
        path.append(parents[0])
        parents = synsets[parents[0]].parents
    return path


def tree_children(wnids: Iterable[str], synsets: dict[str, Synset]) -> dict[str, set[str]]:
    """Gives the tree of first parents above some meanings: each inner node with its children."""
    children: dict[str, set[str]] = {}
    for wnid in wnids:
        node = wnid
        for parent in ancestors(wnid, synsets):
            children.setdefault(parent, set()).add(node)
            node = parent
    return children


def _photographable(wnids: list[str], synsets: dict[str, Synset]) -> str | None:
    """Picks the first concrete meaning; an animal goes before its meat, its fur and a singer of that name."""
    concrete = [w for w in wnids if synsets[w].file_number in CONCRETE_FILES]
    animals = [w for w in concrete if synsets[w].file_number == _ANIMAL]
    if animals and synsets[concrete[0]].file_number in _ANIMAL_FIRST:
        return animals[0]
    return concrete[0] if concrete else None


def _parse_synset(fields: list[str], gloss: str) -> Synset:
    count = int(fields[3], 16)
    names = tuple(fields[4 + 2 * i].replace("_", " ") for i in range(count))
    pointers = fields[5 + 2 * count :]
    triples = (pointers[4 * i : 4 * i + 2] for i in range(int(fields[4 + 2 * count])))
    parents = tuple("n" + offset for symbol, offset in triples if symbol in ("@", "@i"))
    definition = gloss.split(";")[0].split('"')[0].strip()
    return Synset("n" + fields[0], int(fields[1]), names, parents, definition)
