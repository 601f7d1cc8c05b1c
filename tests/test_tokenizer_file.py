"""How the tokenizer reads its file: ids looked up in the text, or all of them, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import TINY_FOLDER

from qprompt_runtime import tokenizer as module
from qprompt_runtime.errors import BundleError
from qprompt_runtime.tokenizer import Tokenizer

FILE = TINY_FOLDER / "tokenizer.json"
TEXTS = ("a photo of a carrot.", 'say "no"', "back\\slash", "!", "café 寿司", "dog's 42")


@pytest.fixture(scope="module")
def whole() -> dict[str, int]:
    vocabulary: dict[str, int] = json.loads(FILE.read_bytes())["model"]["vocab"]
    return vocabulary


def test_a_few_ids_are_looked_up_without_the_table(whole: dict[str, int]) -> None:
    few = Tokenizer(FILE)
    words = ["a", "photo", "of", "a", "carrot"]
    assert few.encode(" ".join(words)) == [whole[f"{word}</w>"] for word in words]
    assert set(few._ids) == {"a</w>", "photo</w>", "of</w>", "carrot</w>"}


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_the_same_from_the_table(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Tokenizer(FILE).encode(text)
    monkeypatch.setattr(module, "_LOOKED_UP", 0)
    table = Tokenizer(FILE)
    assert table.encode(text) == few
    assert len(table._ids) > 40_000


def test_a_token_that_ends_like_another_is_not_taken_for_it(whole: dict[str, int]) -> None:
    quoted = [token for token in whole if token.startswith('"') and token[1:] in whole]
    assert quoted
    text = FILE.read_bytes()
    for token in quoted:
        assert module._looked_up(text, token[1:]) == whole[token[1:]]


def test_many_tokens_have_the_table_read(whole: dict[str, int]) -> None:
    ends = [token for token in whole if token.endswith("</w>") and token.isascii()]
    words = [token[:-4] for token in ends if token[:-4].isalpha()][5000:5200]
    tokenizer = Tokenizer(FILE)
    assert [tokenizer.encode(word) for word in words] == [[whole[f"{word}</w>"]] for word in words]
    assert len(tokenizer._ids) == len(whole)


def test_the_layout_of_another_program(tmp_path: Path) -> None:
    copy = tmp_path / "tokenizer.json"
    copy.write_text(json.dumps(json.loads(FILE.read_bytes()), indent=1), encoding="utf-8")
    assert [Tokenizer(copy).encode(text) for text in TEXTS] == [
        Tokenizer(FILE).encode(text) for text in TEXTS
    ]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"model": {"vocab": {}}}', b'{"vocab":{},"merges":[["a","b"]]}']
)
def test_what_is_no_tokenizer_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"is not a readable tokenizer .*; add the bundle again"):
        Tokenizer(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a readable tokenizer"):
        Tokenizer(tmp_path / "tokenizer.json")


def test_a_damaged_vocabulary_is_refused_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(FILE.read_bytes().replace(b'"carrot</w>":', b'"carrot</w>";'))
    tokenizer = Tokenizer(path)
    assert tokenizer.encode("a photo")
    with pytest.raises(BundleError, match="is not a readable tokenizer"):
        tokenizer.encode("carrot")


@pytest.mark.parametrize("indent", [None, 1])
def test_a_token_that_the_vocabulary_lacks(indent: int | None, tmp_path: Path) -> None:
    """It is one clear error each time, and the other tokens stay known."""
    content = json.loads(FILE.read_bytes())
    del content["model"]["vocab"]["carrot</w>"]
    separators = (",", ":") if indent is None else None
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=indent, separators=separators), "utf-8")
    tokenizer = Tokenizer(path)
    for _ in range(2):
        with pytest.raises(BundleError, match=r"is not a readable tokenizer \('carrot</w>'\)"):
            tokenizer.encode("carrot")
    assert tokenizer.encode("a photo") == Tokenizer(FILE).encode("a photo")
