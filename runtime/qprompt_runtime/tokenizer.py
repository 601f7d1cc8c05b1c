"""Class names to token rows: CLIP's byte-pair encoding and the layout of a prompt.

A prompt is [start] context vectors, then the tokens of the class (its text between the two template parts),
then [end]. The context vectors are learned, so only what follows them is tokenized here; byte-pair encoding
works word by word, so cutting a sentence between words changes no token.

The encoder is a reader of our own for `tokenizer.json`: the `tokenizers` library would bring a network stack
to an offline device (20 packages, 40 MB), and a custom-operator library ties the text to an onnxruntime
build. `regex` and `ftfy` do the parts where details count, exactly as open_clip's tokenizer does them. Plain
ASCII needs neither. For a few names, only the merges become a table; token ids are looked up in the file's
text, since a table of all takes longer to make, and more memory, than a small image tower.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.errors import BundleError, TextError
from qprompt_runtime.manifest import TextLayout

_ENDINGS = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d"
_WORDS = _ENDINGS + r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_ASCII_WORDS = _ENDINGS + r"|[a-z]+|[0-9]|[^\sa-z0-9]+"  # of lower case
_END_OF_WORD = "</w>"
_VOCAB, _MERGES = b'"vocab":{', b'"merges":['  # as the export writes them
_LOOKED_UP = 64
"""Most token ids that are looked up in the file's text: a table of all takes as long as so many."""


@dataclass(frozen=True)
class ClassTokens:
    """What follows the context vectors, for C classes.

    Attributes:
        tokens: int64 [C, S]; the end token, then padding, behind each name.
        ends: int64 [C]; where in the S tokens the end token stands.
    """

    tokens: NDArray[np.int64]
    ends: NDArray[np.int64]


class Tokenizer:
    """CLIP's byte-pair encoder, equal to open_clip's `SimpleTokenizer`.

    Args:
        path: A bundle's `tokenizer.json`: `model.vocab` (token to id) and `model.merges` (pairs, best first).

    Raises:
        BundleError: The file is missing or is not such a tokenizer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ids: dict[str, int] = {}
        with self._readable():
            self._text = path.read_bytes()
            merges = _value_after(self._text, _MERGES)
            if merges is None or _VOCAB not in self._text:  # another program wrote it
                model = json.loads(self._text)["model"]
                merges, self._ids, self._text = model["merges"], model["vocab"], b""
            self._ranks: dict[str, int] = {pair: rank for rank, pair in enumerate(merges)}
        self._letters = _byte_letters()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                f"{self._path} is not a readable tokenizer ({error}); add the bundle again"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without start and end token.

        Raises:
            BundleError: The file's vocabulary is damaged.
        """
        return [
            self._id(part)
            for word in _words(clean(text))
            for part in self._merge("".join(self._letters[byte] for byte in word.encode()))
        ]

    def _id(self, token: str) -> int:
        if token in self._ids:
            return self._ids[token]
        found = _looked_up(self._text, token) if len(self._ids) < _LOOKED_UP else None
        with self._readable():
            if found is not None:
                self._ids[token] = found
            elif self._text:
                self._ids, self._text = _value_after(self._text, _VOCAB, _MERGES), b""
            return self._ids[token]

    def _merge(self, word: str) -> list[str]:
        """Split a word into letters and join the best-ranked neighbours until none is left."""
        if word in ("<start_of_text>", "<end_of_text>"):
            return [word]
        parts = [*word[:-1], word[-1] + _END_OF_WORD]
        while len(parts) > 1:
            pairs = [" ".join(pair) for pair in itertools.pairwise(parts)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            joined: list[str] = []
            for part in parts:
                # a part that was joined just now ends in a join, never in the first half alone
                if joined and f"{joined[-1]} {part}" == best:
                    joined[-1] += part
                else:
                    joined.append(part)
            parts = joined
        return parts


def _value_after(text: bytes, key: bytes, following: bytes = b"") -> Any:
    """What the last such key of a JSON text stands for; the key ends with the value's first letter.

    None if there is no such key. `following` comes behind the value, if it is there, and is not decoded.
    """
    place = text.rfind(key)
    if place < 0:
        return None
    end = text.find(following, place) if following else -1
    part = memoryview(text)[place + len(key) - 1 : end if end >= 0 else None]
    return json.JSONDecoder().raw_decode(str(part, "utf-8"))[0]


def _looked_up(text: bytes, token: str) -> int | None:
    """The id that a tokenizer's text gives a token; None if it is not found, as for the first of all."""
    # the comma: not the end of another token
    entry = b",%b:" % json.dumps(token, ensure_ascii=False).encode()
    place = text.find(entry, text.find(_VOCAB))
    digits = re.compile(rb"\d+").match(text, place + len(entry)) if place >= 0 else None
    return int(digits[0]) if digits else None


def _words(text: str) -> list[str]:
    """What byte-pair encoding takes apart, from a text that was cleaned."""
    if text.isascii():
        return re.findall(_ASCII_WORDS, text)
    import regex  # slow to import, and seldom needed

    found: list[str] = regex.findall(_WORDS, text, regex.IGNORECASE)
    return found


def clean(text: str) -> str:
    """open_clip's `lower` cleaning: repair Unicode, unescape HTML twice, fold white space, lower case."""
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import html  # plain names need no repair, and both take a moment to load

        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def class_tokens(
    tokenizer: Tokenizer,
    layout: TextLayout,
    texts: Sequence[str],
    template: tuple[str, str],
    context_vectors: int,
) -> ClassTokens:
    """Tokens of every class, cut to the longest one where the text tower allows it.

    Args:
        tokenizer: The bundle's tokenizer.
        layout: The bundle's text layout.
        texts: Prompt texts of the C classes.
        template: What stands before and after a class's text, such as ("", ".").
        context_vectors: Number n of context vectors.

    Raises:
        TextError: A text has no tokens, or the prompt is longer than the context length.
    """
    room = layout.context_length - 1 - context_vectors
    rows = []
    for text in texts:
        if not _words(clean(text)):
            raise TextError(f"the class name {text!r} has no words in it; give it a text with --class-names")
        row = [*tokenizer.encode(f"{template[0]} {text}{template[1]}"), layout.end_token]
        if len(row) > room:
            raise TextError(
                f"the class name {text[:60]!r} needs {len(row)} tokens, but beside {context_vectors} context "
                f"vectors there is room for {room}; give a shorter text with --class-names"
            )
        rows.append(row)
    length = max(map(len, rows)) if layout.causal else room
    tokens = np.full((len(rows), length), layout.pad_token, np.int64)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    return ClassTokens(tokens, np.array([len(row) - 1 for row in rows], np.int64))


def check_names(
    names: Iterable[tuple[str, str]], encode: Callable[[str], Sequence[int]], *, shared: bool
) -> None:
    """Refuse classes without words, and classes with the same words.

    Words are compared as the text tower reads them, and only where classes share a context.

    Args:
        names: Label and prompt text of each class.
        encode: `Tokenizer.encode` of the backbone; called only for texts that differ in spaces at most, so
            that most checks need no tokenizer in memory.
        shared: Whether all classes share one context, so that their text alone tells them apart.

    Raises:
        TextError: Names the class, or both.
    """
    alike: dict[str, list[tuple[str, str]]] = {}
    for label, text in names:
        letters = "".join(clean(text).split())  # all that becomes tokens
        if not letters:
            raise TextError(
                f"the class {label!r} has no words in it (its text is {text[:60]!r}); rename it, or give it "
                "words (--class-names)"
            )
        for other, its_text in alike.get(letters, ()) if shared else ():
            if encode(its_text) == encode(text):
                raise TextError(
                    f"the classes {other!r} and {label!r} are the same words to the backbone, "
                    f"{clean(text)[:60]!r}; rename one, or give it other words (--class-names)"
                )
        alike.setdefault(letters, []).append((label, text))


def _byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in the vocabulary (GPT-2's table).

    Printable Latin-1 bytes stand for themselves; the 68 others get the letters from U+0100 on.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + k) for k, byte in enumerate(others)}
