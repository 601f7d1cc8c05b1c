"""Our tokenizer, which needs no library on the device, against open_clip's `SimpleTokenizer`.

No input differs.
"""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("open_clip")

from open_clip.tokenizer import SimpleTokenizer

from qprompt_exporters.tokenizer import tokenizer_json
from qprompt_runtime.tokenizer import Tokenizer

pytestmark = pytest.mark.export

theirs = SimpleTokenizer()


@pytest.fixture(scope="module")
def json_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer_json(theirs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ours(json_file: Path) -> Tokenizer:
    return Tokenizer(json_file)


def assert_equal(ours: Tokenizer, texts: list[str]) -> None:
    different = [(text, ours.encode(text), theirs.encode(text)) for text in texts]
    different = [row for row in different if row[1] != row[2]]
    shown = "\n".join(f"{text!r}: ours {mine}, open_clip's {other}" for text, mine, other in different[:10])
    assert not different, f"{len(different)} of {len(texts)} texts differ:\n{shown}"


def test_every_entry_of_the_vocabulary(ours: Tokenizer) -> None:
    """The words that CLIP learned whole or in parts, names and misspellings among them."""
    letters = {letter: byte for byte, letter in theirs.byte_encoder.items()}
    words = []
    for entry in list(theirs.encoder)[:-2]:
        raw = bytes(letters[letter] for letter in entry.removesuffix("</w>"))
        words.append(raw.decode("utf-8", errors="replace"))
    assert len(words) == 49406
    assert_equal(ours, words)


def test_sentences_of_vocabulary_words(ours: Tokenizer) -> None:
    words = [
        entry.removesuffix("</w>") for entry in theirs.encoder if entry.isascii() and entry.isprintable()
    ]
    assert_equal(
        ours,
        [
            f"A photo of a {a} {b}-{c}."
            for a, b, c in zip(words[::5], words[7::5], words[99::5], strict=False)
        ],
    )


def test_numbers(ours: Tokenizer) -> None:
    assert_equal(ours, [str(number) for number in range(2000)])
    assert_equal(ours, ["3.14", "1,000,000", "12e-7", "x86_64", "0x1F", "№5", "½ cup", "²³", "٣٤", "Ⅻ", "①②"])


def test_every_letter_on_its_own(ours: Tokenizer) -> None:
    """All of Unicode's first plane, one character at a time and between two letters."""
    characters = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    known = [character for character in characters if unicodedata.category(character) != "Cn"]
    assert_equal(ours, known[::5])
    assert_equal(ours, [f"a{character}b" for character in known[2::50]])


@pytest.mark.parametrize(
    "text",
    [
        "café", "naïve", "Ångström", "smørrebrød", "Łódź", "İstanbul", "straße", "ﬁne", "Ǆ", "ΣΊΣΥΦΟΣ",
        "cafe\u0301", "n\u0303", "a\u0300\u0301\u0302", "\u0301", "क्षि", "ไทย", "한국어", "\u1112\u1161\u11ab",
        "東京", "寿司 🍣", "🦜", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "☃️", "猫cat猫",
        "Ｆｕｌｌｗｉｄｔｈ　ｔｅｘｔ", "ﾊﾝｶｸ", "ℌ𝔢𝔩𝔩𝔬", "①", "…", "“quoted” ‘text’", "a–b—c",
        "&amp;", "&lt;b&gt;", "AT&T", "&amp;amp;", "&amp;amp;amp;amp;lt;", "&#233;", "&#x1F600;", "&eacute;clair",
        "&NTILDE;", "&Atilde;&copy;", "&nbsp;", "&notanentity;", "&#0;", "&#128;", "&#xD800;", "<b>&amp;</b>",
        "I'm", "they'll", "don't", "dog's", "DOG'S", "we've", "you're", "he'd", "'tis", "rock 'n' roll", "'ſ", "ſ",
        "  two  spaces  ", "tab\there", "new\nline", "carriage\r\nreturn", "a\u00a0b", "a\u2003b", "a\u200bb",
        "a\u2028b", "a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", "\ufeffbom",
        "null\x00byte", "bell\x07", "escape\x1b[31mred\x1b[0m", "delete\x7f", "\x01\x02\x03", "soft\u00adhyphen",
        "cafÃ©", "â€œquotesâ€\x9d", "schÃ¶n", "\ufffd", "\udcff lone", "right\u202eleft",
        "<start_of_text>", "a <end_of_text> b", "<END_OF_TEXT>", "<|endoftext|>",
        "", " ", "\n", "\x00", ".", "...", "!?", "_", "snake_case", "kebab-case", "a/b\\c", "C++", "#1", "$5", "100%",
        "\U0001f9a0", "\U000e0067", "\U0010ffff", "\ue000", "supercalifragilisticexpialidocious", "a" * 300,
        "Pneumonoultramicroscopicsilicovolcanoconiosis", "été" * 50, "aaaa aaa aa a", "ababababab", "lololololol",
    ],
)  # fmt: skip
def test_text_that_is_easy_to_get_wrong(ours: Tokenizer, text: str) -> None:
    assert_equal(ours, [text])
    assert_equal(ours, [f"a photo of a {text}."])


@settings(max_examples=400)
@given(st.text())
def test_any_text(ours: Tokenizer, text: str) -> None:
    assert_equal(ours, [text])


@settings(max_examples=400)
@given(st.text(alphabet=st.sampled_from("&#;xaltgmp0123<>'\"\x00\x1b[m\t\n ENé’Ã©\u0301"), max_size=25))
@example("&amp;amp;lt;")
def test_entities_quotes_and_controls(ours: Tokenizer, text: str) -> None:
    assert_equal(ours, [text])


def test_the_tokenizers_library_reads_the_same_file(json_file: Path) -> None:
    import tokenizers  # here, since a machine without torch skips this module before it gets so far

    library = tokenizers.Tokenizer.from_file(str(json_file))
    texts = [
        "cat",
        "a photo of a Siberian husky.",
        "dog's don't",
        "T-shirt 42",
        "café",
        "snow  leopard",
        "東京 🍣",
    ]
    for text in texts:
        assert library.encode(text).ids == theirs.encode(text), text
