"""The pieces of a report say what the results say, are well-formed and harmless, and can be read."""

import base64
import io
import re

import numpy as np
import pytest
from pages import loaded, tags_of, text_of
from PIL import Image
from scenes import write_photo

from qprompt_edge.data.photos import SkippedPhoto
from qprompt_edge.data.same_photos import SamePhoto
from qprompt_edge.data.thumbnails import data_uri, thumbnail
from qprompt_edge.evaluation.intervals import wilson
from qprompt_edge.evaluation.metrics import confidence_bins, score
from qprompt_edge.evaluation.mistakes import Mistake, find_mistakes
from qprompt_edge.evaluation.paired import compare
from qprompt_edge.reporter import Reporter
from qprompt_edge.reporting import words
from qprompt_edge.reporting.classes import MATRIX_CLASSES, confusion, needing_photos, per_class
from qprompt_edge.reporting.files import left_out, neighbours, sizes
from qprompt_edge.reporting.gallery import MOST_MISTAKES, Picture, mistakes, pictures_of
from qprompt_edge.reporting.markup import shown
from qprompt_edge.reporting.measured import Measured, accuracies, verdict
from qprompt_edge.reporting.page import Section, report_page
from qprompt_edge.reporting.reliability import reliability
from qprompt_edge.reporting.theme import DARK, LIGHT, page_styles, piece_styles
from qprompt_runtime.errors import ImageError

HOSTILE = "<img src=x onerror=alert(1)>\"'&\n\u202e\udcff"


def whole(piece: str) -> str:
    """A piece within a page."""
    return report_page("kind", "title", "lead", "", [Section("piece", "Piece", piece)], [("seed", "1")])


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("right", "count", "expected"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0)), (45, 48, (0.8316, 0.9785))],
)
def test_wilson_as_tables_have_it(right, count, expected):
    assert wilson(right / count, count) == pytest.approx(expected, abs=5e-5)


def test_bins_hold_each_photo_once_and_give_the_calibration_error():
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    scores = score(probabilities, rng.integers(0, 4, 300))
    bins = confidence_bins(scores.confidence, scores.right)
    assert sum(it.photos for it in bins) == 300
    assert sum(it.photos * it.accuracy for it in bins) / 300 == pytest.approx(scores.top1)
    error = sum(it.photos * abs(it.accuracy - it.confidence) for it in bins) / 300
    assert error == pytest.approx(scores.ece)


def test_mistakes_come_with_the_most_confident_first(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], np.float32)
    found = find_mistakes(paths, np.array([0, 0, 0, 1]), probabilities, ["cat", "dog"])
    assert [(it.path.name, it.label, it.predicted) for it in found] == [
        ("2.jpg", "cat", "dog"),
        ("1.jpg", "cat", "dog"),
    ]
    assert found[0].to_json()["probability"] == pytest.approx(0.8)


# ---------------------------------------------------------------------- markup


def test_text_from_outside_is_escaped_and_stays_one_line():
    escaped = shown(HOSTILE)
    assert not set(escaped) & set("<>\"'\n\u202e\udcff")
    assert escaped == r"&lt;img src=x onerror=alert(1)&gt;&quot;\&#x27;&amp;\n\u202e\udcff"
    assert len(shown("x" * 10_000)) == 120
    assert shown("abcdefgh", 5) == "ab…gh"


# ---------------------------------------------------------------------- verdict and accuracies


def judged(before: int, after: int, count: int) -> tuple[Measured, Measured, str]:
    """A verdict on made-up answers: the first `before` and the last `after` of `count` are right."""
    ranks = np.arange(count)
    change = compare(ranks < before, ranks >= count - after)
    sides = [Measured(name, "", right, count, 0.5) for name, right in (("old", before), ("new", after))]
    return sides[0], sides[1], verdict(change, *sides, f"{count} photos")


@pytest.mark.parametrize(
    ("before", "after", "headline", "kind"),
    [
        (10, 40, words.HELPED, "r-helped"),
        (40, 10, words.WORSE, "r-worse"),
        (24, 25, words.UNSURE, "r-unsure"),
    ],
)
def test_the_verdict_in_words(before, after, headline, kind):
    _, _, piece = judged(before, after, 48)
    text = text_of(whole(piece))
    assert headline in text
    assert kind in piece
    assert f"{before / 0.48:.1f}%" in text
    assert f"{after / 0.48:.1f}%" in text
    assert f"{(after - before) / 0.48:+.1f} points" in text
    assert f"Of 48 photos, {after} are recognised with the prompt, and {before} by the class names" in text
    assert (words.CHANCE in text) == (kind == "r-unsure")
    assert (words.MAY_HELP in text) == (kind == "r-worse")


def test_each_accuracy_has_its_interval():
    text = text_of(whole(accuracies([Measured("a", "first", 45, 48, 0.9), Measured("b", "", 0, 48, 0.0)])))
    assert "48 photos" in text
    assert "93.8% 83.2 to 97.9% 90.0%" in text
    assert "0.0% 0.0 to 7.4% 0.0%" in text


# ---------------------------------------------------------------------- classes


def counts_of(classes: int, wrong: int = 0) -> np.ndarray:
    """Ten photos of each class, `wrong` of each taken for the next class."""
    counts = np.diag(np.full(classes, 10 - wrong))
    counts[np.arange(classes), (np.arange(classes) + 1) % classes] += wrong
    return counts


@pytest.mark.parametrize("classes", [2, 8, MATRIX_CLASSES])
def test_few_classes_have_a_matrix(classes):
    labels = [f"class {number}" for number in range(classes)]
    piece = confusion(labels, counts_of(classes, 3))
    tags = tags_of(whole(piece))
    assert sum(tag == "td" for tag, _ in tags) == classes**2
    assert sum(tag == "th" and a["scope"] == "row" for tag, a in tags if tag == "th") == classes
    assert piece.count(">7<") == piece.count(">3<") == classes
    assert piece.count("r-good-3") == classes  # 7 of 10 is in the highest third
    assert piece.count("r-bad-1") == classes


@pytest.mark.parametrize("classes", [MATRIX_CLASSES + 1, 100, 1000])
def test_many_classes_have_their_most_frequent_confusions(classes):
    labels = [f"class {number}" for number in range(classes)]
    counts = counts_of(classes)
    counts[5, 6], counts[5, 5] = 4, 6
    counts[9, 2], counts[9, 9] = 1, 9
    text = text_of(whole(confusion(labels, counts)))
    assert "2 of 2" in text
    assert "class 5 class 6 4 of 10 class 9 class 2 1 of 10" in text
    assert len(confusion(labels, counts_of(classes, 5))) < 10_000
    assert words.NO_CONFUSION in confusion(labels, counts_of(classes))


def test_classes_from_the_lowest_accuracy_on():
    counts = counts_of(3)
    counts[2] = [6, 2, 2]
    text = text_of(whole(per_class(["a", "b", "c"], counts)))
    assert "right answers c 2 of 10 taken for: a 6, b 2 a 10 of 10 b 10 of 10" in text


def test_of_many_classes_those_without_a_mistake_are_named_in_a_line():
    labels, counts = [f"c{number}" for number in range(30)], counts_of(30)
    counts[3, 4], counts[3, 3], counts[7] = 1, 9, 0
    text = text_of(whole(per_class(labels, counts)))
    assert "c3 9 of 10 taken for: c4 1" in text
    assert "Without a mistake: c0, c1, c2, c4" in text
    assert "Without a photo to judge by: c7." in text
    assert len(per_class([f"c{number}" for number in range(5000)], counts_of(5000, 1))) < 40_000


def test_which_classes_need_photos_and_why():
    counts = counts_of(4)
    counts[1], counts[2] = [0, 0, 0, 0], [8, 0, 2, 0]
    text = text_of(whole(needing_photos(["few", "none", "wrong", "good"], [3, 20, 20, 20], counts)))
    assert "10 to 30 are a good start: few (3)." in text
    assert "No photo to judge by: none." in text
    assert "Right in less than three of four photos: wrong (2 of 10)." in text
    assert words.NEEDS_NOTHING in needing_photos(["a", "b"], [20, 20], counts_of(2))
    assert words.NEEDS_NOTHING in needing_photos(["a", "b"], [], None)


# ---------------------------------------------------------------------- reliability


@pytest.mark.parametrize(
    ("confidence", "right", "meaning"),
    [(0.95, 50, words.TOO_SURE), (0.55, 90, words.TOO_MODEST), (0.9, 88, "as far as 100 photos can tell")],
)
def test_whether_confidence_can_be_believed(confidence, right, meaning):
    bins = confidence_bins(np.full(100, confidence, np.float32), np.arange(100) < right)
    piece = reliability(bins, 0.123)
    assert meaning in piece
    assert f"{100 * confidence:.1f}% sure, and {right}.0% of its answers are right" in piece
    assert "12.3%" in piece
    assert f"100 photos with a confidence of {100 * confidence:.1f}%, of which {right}.0% are right" in piece
    tags = tags_of(whole(piece))
    assert sum(tag == "circle" for tag, _ in tags) == 1


# ---------------------------------------------------------------------- pictures


def test_a_thumbnail_is_upright_and_small(tmp_path):
    image = Image.new("RGB", (640, 320), (200, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    made = thumbnail(tmp_path / "turned.jpg", 160)
    with Image.open(io.BytesIO(made)) as small:
        assert (small.format, small.size) == ("JPEG", (80, 160))
        assert not small.getexif()
    Image.new("RGBA", (20, 10)).save(tmp_path / "tiny.png")
    with Image.open(io.BytesIO(thumbnail(tmp_path / "tiny.png", 160))) as small:
        assert small.size == (20, 10)
    assert data_uri(made) == "data:image/jpeg;base64," + base64.b64encode(made).decode()


def test_a_photo_that_takes_more_memory_than_is_allowed_has_no_picture(tmp_path):
    Image.new("RGB", (4000, 3000)).save(tmp_path / "large.png")
    (lost,) = pictures_of([tmp_path / "large.png"], tmp_path, Reporter(), max_memory=1)
    assert lost.address is None
    assert "memory" in lost.problem
    (kept,) = pictures_of([tmp_path / "large.png"], tmp_path, Reporter())
    assert kept.address is not None


def test_a_thumbnail_of_what_is_no_photo_is_refused(tmp_path):
    (tmp_path / "no.jpg").write_text("no photo")
    with pytest.raises(ImageError, match=r"no\.jpg"):
        thumbnail(tmp_path / "no.jpg", 160)


def test_mistakes_have_pictures_and_say_how_many_are_left_out(tmp_path):
    found = []
    for number in range(MOST_MISTAKES + 5):
        write_photo(tmp_path / f"{number}.png", (40, 80, 220), number)
        found.append(Mistake(tmp_path / f"{number}.png", "cat", "dog", 0.75))
    (tmp_path / "1.png").unlink()
    stages = []
    reporter = Reporter(stage=lambda _name, done, total: stages.append((done, total)))
    pictures = pictures_of([it.path for it in found[:MOST_MISTAKES]], tmp_path, reporter)
    piece = mistakes(found, pictures)
    assert stages[-1] == (MOST_MISTAKES, MOST_MISTAKES)
    assert len(list(loaded(whole(piece)))) == MOST_MISTAKES - 1
    text = text_of(whole(piece))
    assert f"{MOST_MISTAKES + 5} photos taken for another class" in text
    assert f"The first {MOST_MISTAKES} are shown, 5 are left out here." in text
    assert "No picture: no such file" in text
    assert str(tmp_path) not in text
    assert " 2.png " in text
    assert text.count("cat taken for dog, 75.0%") == MOST_MISTAKES
    assert 'alt="A photo of cat, taken for dog"' in piece


def test_pictures_of_a_server_keep_their_address():
    found = [Mistake("cat/1.jpg", "cat", "dog", 0.5)]
    piece = mistakes(found, [Picture("cat/1.jpg", "/api/tasks/a%20b/photos/cat%2F1.jpg/thumb?size=160&x=1")])
    assert list(loaded(whole(piece))) == ["/api/tasks/a%20b/photos/cat%2F1.jpg/thumb?size=160&x=1"]


def test_no_mistakes():
    assert words.NO_MISTAKES in mistakes([], [])


# ---------------------------------------------------------------------- files


def test_files_that_were_left_out(tmp_path):
    skipped = [SkippedPhoto(tmp_path / f"{number}.jpg", "is empty (0 bytes)") for number in range(25)]
    same = [SamePhoto((tmp_path / "a" / "1.jpg", tmp_path / "b" / "1.jpg"), ("a", "b"))]
    text = text_of(whole(left_out(skipped, same, tmp_path, judged=False)))
    assert "20 of 25" in text
    assert "is empty (0 bytes)" in text
    assert words.SAME in text
    assert left_out([], [], tmp_path, judged=True) == ""


def test_sizes_are_the_arithmetic_that_they_state(tiny):
    manifest = tiny.manifest
    found = neighbours(469, 8, manifest)
    tower = manifest.files["image.onnx"].bytes + manifest.files["image.weights"].bytes
    assert found == [469, 257 * 8 * 2, 257 * 8 * 4, 16 * 512 * 4, tower]
    text = text_of(whole(sizes(469, 8, manifest)))
    for size in found:
        assert f" {size:,} " in text
    assert "(256 weights + 1) × 8 classes × 4 bytes" in text
    assert f"{tower / 469:,.0f} times as large" in text


# ---------------------------------------------------------------------- the page


def test_no_piece_lets_names_become_markup(tmp_path, tiny):
    labels = [HOSTILE, "b", "c"]
    counts = counts_of(3, 6)
    path = tmp_path / HOSTILE
    found = [Mistake(path, HOSTILE, HOSTILE, 0.5)]
    many = [f"{HOSTILE}{number}" for number in range(30)]
    pieces = [
        per_class(labels, counts),
        confusion(labels, counts),
        confusion(many, counts_of(30, 5)),
        per_class(many, counts_of(30, 5)),
        per_class(many, counts_of(30)),
        needing_photos(labels, [1, 1, 1], counts),
        mistakes(found, pictures_of([path], tmp_path, Reporter())),
        left_out([SkippedPhoto(path, HOSTILE)], [SamePhoto((path, path), ("a", "b"))], tmp_path, judged=True),
        accuracies([Measured(HOSTILE, HOSTILE, 1, 2, 0.5)]),
        judged(1, 2, 3)[2],
    ]
    for piece in pieces:
        page = whole(piece)
        tags = tags_of(page)
        assert not {"img", "script", "iframe", "object", "form", "base"} & {tag for tag, _ in tags}
        assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
        assert not [name for _, attributes in tags for name in attributes if name == "style"]
    assert sum("&lt;img src=x" in piece for piece in pieces) == len(pieces) - 1


def test_a_page_loads_and_runs_nothing():
    page = whole("<p>x</p>")
    assert list(loaded(page)) == []
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert "url(" not in page
    assert "@import" not in page
    policies = [a["content"] for tag, a in tags_of(page) if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_a_page_has_a_heading_for_each_section_and_a_link_to_it():
    page = report_page("kind", "t", "l", "", [Section("a", "A", "x"), Section("empty", "E", "")], [])
    tags = tags_of(page)
    assert [a["href"] for tag, a in tags if tag == "a"] == ["#a"]
    assert [a["id"] for tag, a in tags if tag == "section"] == ["a"]
    assert [tag for tag, _ in tags if re.fullmatch(r"h\d", tag)] == ["h1", "h2", "h2"]


# ---------------------------------------------------------------------- colours


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.2, from 1 to 21."""

    def luminance(colour: str) -> float:
        levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_is_that_of_wcag_aa(palette):
    for name in ("text", "muted", "accent", "good", "bad", "unsure"):
        for ground in ("page", "card"):
            assert contrast(palette[name], palette[ground]) >= 4.5, (name, ground)
    for ground in ("good-1", "good-2", "good-3", "bad-1", "bad-2", "bad-3"):
        assert contrast(palette["text"], palette[ground]) >= 4.5, ground
    assert contrast(palette["accent"], palette["track"]) >= 3  # what is drawn


def test_style_sheets_use_colours_of_the_palette_only():
    sheet = page_styles()
    rules = sheet.split("}}", 1)[1]
    assert set(re.findall(r"var\(--r-([\w-]+)\)", rules)) - {"tone"} <= set(LIGHT)
    assert not re.findall(r"#[0-9a-f]{3,6}\b", rules)
    assert set(LIGHT) == set(DARK)
    assert piece_styles() in sheet
    selectors = re.findall(r"^([^@/\s{}][^{}]*)\{", piece_styles().split("}}", 1)[1], flags=re.MULTILINE)
    assert all(part.strip().startswith(".r-") for line in selectors for part in line.split(","))
