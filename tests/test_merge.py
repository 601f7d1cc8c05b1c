"""`merge`: what many prompts become, whom they listen to, what is refused, the trial on held-out photos."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import Result, assert_refused
from conftest import TINY_FOLDER
from prompts import FULL, TINY
from scenes import CLASSES, write_photos

from qprompt_edge import Policy, merge
from qprompt_edge.shipping.combining import MOST_WEIGHT, clipped_mean, majority, weighted_median, weights_of
from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.images import load_pixels
from qprompt_runtime.prompt_file import (
    Calibration,
    ClassName,
    PromptFile,
    PromptGroup,
    read_prompt_file,
    write_prompt_file,
)
from qprompt_runtime.text_features import text_features

Run = Callable[..., Result]
RNG = np.random.default_rng(12345)
TRUTH = {label: RNG.standard_normal(64).astype(np.float32) / 8 for label in "abcd"}
TEMPLATE = ("a photo of a ", ".")


def residual_prompt(
    rows: dict[str, np.ndarray],
    *,
    bits: float = 1,
    photos: int | Sequence[int] = 4,
    offset: float = 0.0,
    order: Sequence[str] | None = None,
    **changes: object,
) -> PromptFile:
    """A `qtaskres` prompt with these residuals; labels without one in `order` have no row."""
    labels = list(order or rows)
    known = [label for label in labels if label in rows]
    owners = tuple(map(labels.index, known)) if len(known) < len(labels) else ()
    group = make_group("class-residuals", np.stack([rows[label] for label in known]), bits, by_row=True)
    offsets = PromptGroup.plain("class-offsets", np.full(len(known), offset, np.float16), owners)
    counts = (photos,) * len(labels) if isinstance(photos, int) else tuple(photos)
    made = replace(
        FULL,
        groups=(replace(group, rows=owners), offsets),
        classes=tuple(map(ClassName.from_label, labels)),
        template=TEMPLATE,
        photos=counts,
        metadata={},
        extras={},
    )
    return replace(made, **changes)


def noisy(seed: int, labels: str = "abcd", noise: float = 0.1, **given: object) -> PromptFile:
    """What a device learned: the truth and an error of its own."""
    rng = np.random.default_rng(seed)
    rows = {label: TRUTH[label] + noise * rng.standard_normal(64).astype(np.float32) for label in labels}
    return residual_prompt(rows, **given)


def directions(prompt: PromptFile) -> dict[str, np.ndarray]:
    """Each tuned class's residual, of length 1."""
    values = prompt.groups[0].values()
    owners = prompt.groups[0].rows or range(len(prompt.classes))
    return {
        prompt.classes[owner].label: row / np.linalg.norm(row)
        for owner, row in zip(owners, values, strict=True)
    }


def agreement(prompt: PromptFile) -> float:
    """Mean cosine of the residuals to the truth."""
    return float(
        np.mean(
            [row @ TRUTH[label] / np.linalg.norm(TRUTH[label]) for label, row in directions(prompt).items()]
        )
    )


def write(folder: Path, prompts: Sequence[PromptFile]) -> list[Path]:
    paths = [folder / f"{number}.qpt" for number in range(len(prompts))]
    for path, prompt in zip(paths, prompts, strict=True):
        write_prompt_file(path, prompt)
    return paths


# ---------------------------------------------------------------------- numbers


def test_weights_follow_the_photos_up_to_a_limit() -> None:
    assert weights_of(np.array([2, 4])).tolist() == pytest.approx([1 / 3, 2 / 3])
    claimed = weights_of(np.array([2, 2, 2, 2**31]))
    assert claimed[3] == pytest.approx(MOST_WEIGHT * claimed[0])
    assert weights_of(np.array([0, 0])).tolist() == [0.5, 0.5]


def test_a_long_row_counts_as_one_of_the_usual_length() -> None:
    rows = np.array([[1, 0], [0, 1], [1e6, 0]], np.float32)
    assert clipped_mean(rows, np.full(3, 1 / 3)).tolist() == pytest.approx([2 / 3, 1 / 3])


def test_weighted_median() -> None:
    values = np.array([[1.0, 5], [2, 6], [9, 7]])
    assert weighted_median(values, np.array([0.4, 0.4, 0.2])).tolist() == [2, 6]
    assert weighted_median(values[:2], np.array([0.5, 0.5])).tolist() == [1.5, 5.5]
    assert weighted_median(values, np.array([0.2, 0.2, 0.6])).tolist() == [9, 7]


def test_the_majority_decides_and_the_mean_where_votes_are_even() -> None:
    rows = np.array([[-1, 1, 1], [2, 2, -2], [-1, 1, -1]], np.float32)
    assert majority(rows, np.zeros(3), np.full(3, 1 / 3)).tolist() == [False, True, False]
    assert majority(rows[:2] / [[1], [4]], np.zeros(2), np.full(2, 1 / 2)).tolist() == [False, True, True]
    assert majority(rows[:1], np.array([-2.0]), np.ones(1)).all()


# ---------------------------------------------------------------------- class residuals


@pytest.mark.parametrize("bits", [1, 1.6, 2, 8, 32])
def test_many_files_are_nearer_to_the_truth_than_the_best_of_them(bits: float) -> None:
    files = [noisy(seed, bits=bits) for seed in range(10)]
    result = merge(files)
    assert result.prompt.groups[0].bits == bits
    assert agreement(result.prompt) > max(map(agreement, files)) + 0.03
    assert len(result.prompt.to_bytes()) <= max(len(file.to_bytes()) for file in files) + 8


def test_the_order_of_files_and_of_classes_does_not_matter() -> None:
    files = [noisy(1), noisy(2, order="dcba"), noisy(3, "abc", photos=9)]
    merged = {merge(order).prompt.to_bytes() for order in itertools.permutations(files)}
    assert len(merged) == 1
    assert [name.label for name in PromptFile.from_bytes(merged.pop()).classes] == list("abcd")


def test_a_class_that_only_some_know_is_kept() -> None:
    first, second = noisy(1, "ab", photos=[3, 5]), noisy(2, "bc", photos=[7, 2])
    result = merge([first, second])
    said = {it.label: (it.files, it.photos) for it in result.classes}
    assert said == {"a": (1, 3), "b": (2, 12), "c": (1, 2)}
    assert result.prompt.photos == (3, 12, 2)
    assert directions(result.prompt)["a"] @ directions(first)["a"] > 0.999


def test_offsets_are_merged_beside_their_files_level() -> None:
    """A file's level depends on all of its classes, so files of other classes have other levels."""
    low, high = noisy(1, "ab", offset=-0.25), noisy(2, "bc", offset=0.5)
    assert merge([low, noisy(3, "ab", offset=-0.25)]).prompt.groups[1].values().tolist() == [-0.25, -0.25]
    assert merge([low, high]).prompt.groups[1].values().tolist() == [0.125, 0.125, 0.125]


def test_a_class_without_a_row_anywhere_has_none_in_the_result() -> None:
    rows = {"a": TRUTH["a"]}
    result = merge([residual_prompt(rows, order="ab"), residual_prompt({"a": TRUTH["b"]}, order="ab")])
    assert result.prompt.groups[0].rows == (0,)
    assert [name.label for name in result.prompt.classes] == ["a", "b"]


def test_files_count_by_their_photos() -> None:
    many, few = noisy(1, "a", noise=1.0, photos=9), noisy(2, "a", noise=1.0, photos=4)
    row = directions(merge([many, few]).prompt)["a"]
    assert row @ directions(many)["a"] > row @ directions(few)["a"]


def test_without_the_photos_of_one_file_the_result_does_not_say_how_many() -> None:
    result = merge([noisy(1), noisy(2, photos=[])])
    assert result.prompt.photos == ()
    assert result.classes[0].photos is None


POISONED = {
    "offset": noisy(99, photos=2**31, offset=9.0),
    "turned round": residual_prompt({label: -1000 * row for label, row in TRUTH.items()}, photos=2**31),
    "labels": residual_prompt({label: TRUTH[other] for label, other in zip("abcd", "bcda", strict=True)}),
}


@pytest.mark.parametrize("how", POISONED)
def test_one_poisoned_file_of_ten_hardly_moves_the_result(how: str) -> None:
    files = [noisy(seed) for seed in range(10)]
    spoilt = merge([*files[:9], POISONED[how]])
    clean = merge(files).prompt
    assert [it.merged for it in spoilt.files] == [True] * 9 + [how == "offset"]
    assert agreement(spoilt.prompt) > agreement(clean) - 0.05
    assert np.abs(spoilt.prompt.groups[1].values()).max() < 0.01
    lengths = [np.linalg.norm(prompt.groups[0].values(), axis=1) for prompt in (clean, spoilt.prompt)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.1)


@pytest.mark.parametrize("bits", [1, 4, 32])
def test_files_that_are_merged_although_one_is_huge(bits: int) -> None:
    files = [noisy(seed, bits=bits) for seed in range(3)]
    huge = residual_prompt({label: 1000 * row for label, row in TRUTH.items()}, bits=bits)
    lengths = [np.linalg.norm(merge(some).prompt.groups[0].values()) for some in (files, [*files, huge])]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.2)


def test_a_file_that_disagrees_is_left_out_and_named(run: Run, tmp_path: Path) -> None:
    paths = write(tmp_path, [noisy(1), noisy(2), noisy(3), POISONED["labels"]])
    done = run("merge", *paths, "-o", tmp_path / "m.qpt")
    assert f"left out {paths[3]}: what it learned disagrees" in done.out
    assert "of 3 files" in done.err
    assert read_prompt_file(tmp_path / "m.qpt") == merge(paths[:3]).prompt
    both = merge([paths[0], paths[3]])  # of two nobody can say which one is wrong
    assert all(it.merged for it in both.files)


def test_files_without_a_class_in_common_are_merged() -> None:
    result = merge([noisy(1, "a"), noisy(2, "b"), noisy(3, "c")])
    assert [it.agreement for it in result.files] == [None] * 3
    assert [name.label for name in result.prompt.classes] == ["a", "b", "c"]


def test_calibrations_are_medians_and_those_of_too_few_photos_do_not_count() -> None:
    scores = [(0.5, 0.4, 0.3, 0.2, 0.1), (0.6, 0.5, 0.4, 0.3, 0.2), (9.0, 8.0, 7.0, 6.0, 5.0)]
    exact = [tuple(map(float, np.array(each, np.float16))) for each in scores]
    files = [noisy(i, calibration=Calibration(10.0 + i, each, 0.9)) for i, each in enumerate(exact)]
    files.append(noisy(7, calibration=Calibration(100.0)))
    said = merge(files).prompt.calibration
    assert said == Calibration(11.0, exact[1], 0.9)
    other = replace(files[0], calibration=replace(files[0].calibration, accept=None))
    assert merge([files[1], other]).prompt.calibration.accept is None


def test_metadata_that_all_share_is_kept() -> None:
    files = [noisy(i, metadata={"line": "3", "device": str(i)}, extras={20: b"x"}) for i in range(2)]
    result = merge(files).prompt
    assert (result.metadata, result.extras) == ({"line": "3"}, {20: b"x"})


# ---------------------------------------------------------------------- weights that all classes share


def context(values: np.ndarray, bits: int, labels: str = "ab") -> PromptFile:
    classes = tuple(map(ClassName.from_label, labels))
    return replace(
        TINY, groups=(make_group("text-context", values.astype(np.float32), bits),), classes=classes
    )


def test_context_vectors_of_1_bit_are_voted_on() -> None:
    rng = np.random.default_rng(1)
    start = rng.choice([-0.5, 0.5], (4, 64))
    files = [context(np.where(rng.random((4, 64)) < 0.2, -start, start), 1) for _ in range(9)]
    huge = context(-100 * start, 1)
    merged = merge([*files, huge]).prompt
    assert (merged.groups[0].values() == start).mean() > 0.9
    assert [name.label for name in merge([files[0], context(start, 1, "bc")]).prompt.classes] == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize("bits", [2, 16, 32])
def test_context_vectors_of_more_bits_are_means(bits: int) -> None:
    rng = np.random.default_rng(1)
    start = rng.standard_normal((4, 64))
    files = [context(start + rng.standard_normal((4, 64)), bits) for _ in range(5)]
    distance = [
        float(np.square(prompt.groups[0].values() - start).mean()) for prompt in (merge(files).prompt, *files)
    ]
    assert distance[0] < 0.5 * min(distance[1:])


def test_context_vectors_of_classes_go_by_their_labels() -> None:
    rng = np.random.default_rng(1)
    vectors = {label: rng.choice([-0.5, 0.5], (2, 8)) for label in "abc"}
    files = [
        context(np.stack([vectors[label] for label in labels]), 1, labels) for labels in ("ab", "cb", "ca")
    ]
    merged = merge(files).prompt
    assert np.array_equal(merged.groups[0].values(), np.stack([vectors[label] for label in "abc"]))


# ---------------------------------------------------------------------- the command


def test_the_command_says_what_comes_from_where(run: Run, tmp_path: Path) -> None:
    paths = write(tmp_path, [noisy(1, "ab"), noisy(2, "bc")])
    out = tmp_path / "m.qpt"
    done = run("merge", *paths, "-o", out, "--json")
    assert done.code == 0, done.err
    assert read_prompt_file(out) == merge(paths).prompt
    assert done.json["classes"][1] == {"label": "b", "files": 2, "photos": 8}
    assert done.json["holdout"] is None
    assert done.json["calibration"] == "pooled"
    assert done.json["files"][0] == {
        "name": str(paths[0]),
        "classes": 2,
        "photos": 8,
        "merged": True,
        "agreement": None,
        "top1": None,
    }
    assert "not tried on photos" in done.err
    done = run("merge", *paths, "-o", out)
    assert ["a", "1", "4", "kept"] in [line.split() for line in done.out.splitlines()]
    assert ["b", "2", "8", "merged"] in [line.split() for line in done.out.splitlines()]


def test_the_same_prompt_counts_once(run: Run, tmp_path: Path) -> None:
    first, second = noisy(1), noisy(2)
    paths = write(tmp_path, [first, second, first])
    done = run("merge", *paths, "-o", tmp_path / "m.qpt")
    assert f"{paths[2]} holds the same prompt as {paths[0]}: it counts once" in done.err
    assert read_prompt_file(tmp_path / "m.qpt") == merge([first, second]).prompt
    assert_refused(run("merge", paths[0], paths[2], "-o", tmp_path / "m.qpt", "--json"), "1 prompt to merge")
    assert run("merge", "-o", tmp_path / "m.qpt").code == 2


OTHER = {
    "backbone": (replace(noisy(2), fingerprint=bytes(16)), "one backbone"),
    "method": (replace(TINY, fingerprint=FULL.fingerprint), "the method"),
    "bits": (noisy(2, bits=2), "bits a weight 1/16", "bits a weight 2/16"),
    "width": (
        residual_prompt({"a": np.ones(8, np.float32)}),
        "weights of the shape 64",
        "weights of the shape 8",
    ),
    "words": (noisy(2, template=("a sketch of a ", ".")), "'a sketch of a ' ... '.'"),
    "text": (replace(noisy(2, "a"), classes=(ClassName("a", "good weld"),)), "'good weld'", "same words"),
}


@pytest.mark.parametrize("what", OTHER)
def test_files_that_do_not_fit_together_are_refused(what: str, run: Run, tmp_path: Path) -> None:
    other, *words = OTHER[what]
    paths = write(tmp_path, [noisy(1), other])
    done = run("merge", *paths, "-o", tmp_path / "m.qpt", "--json")
    assert_refused(done, str(paths[0]), str(paths[1]), *words)
    assert not (tmp_path / "m.qpt").exists()


def test_the_number_of_context_vectors_must_be_the_same(run: Run, tmp_path: Path) -> None:
    paths = write(tmp_path, [context(np.ones((2, 8)), 32), context(np.ones((3, 8)), 32)])
    assert_refused(run("merge", *paths, "-o", tmp_path / "m.qpt", "--json"), "2x8", "3x8")


def test_another_prompt_is_not_written_over(run: Run, tmp_path: Path) -> None:
    paths = write(tmp_path, [noisy(1, "ab"), noisy(2, "ab"), noisy(3, "cd")])
    assert_refused(run("merge", *paths[:2], "-o", paths[2], "--json"), "another task's prompt")
    assert run("merge", *paths[:2], "-o", paths[2], "--force").code == 0


# ---------------------------------------------------------------------- signatures


def test_every_file_obeys_the_policy_and_the_result_is_signed(run: Run, tmp_path: Path) -> None:
    from signatures import signed, write_public

    from qprompt_edge.shipping.keys import make_key
    from qprompt_runtime.cose_sign1 import claims_in

    folder = tmp_path / "keys"
    write_public(folder / "a.pub", 0)
    write_public(folder / "b.pub", 1)
    paths = [tmp_path / f"{number}.qpt" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(signed(number, noisy(number).to_bytes(), expires=None, sequence=3 + number))
    out = tmp_path / "m.qpt"
    make_key(tmp_path / "device.key")
    (tmp_path / "device.key.pub").rename(folder / "device.pub")
    asked = ("--trust", folder, "-o", out, "--key", tmp_path / "device.key")
    done = run("merge", *paths, *asked)
    assert (done.code, out.exists()) == (3, False), done.err
    assert str(paths[2]) in done.err
    done = run("merge", *paths[:2], *asked)
    assert done.code == 0, done.err
    claims = claims_in(out.read_bytes())
    assert claims is not None
    assert (claims.task, claims.sequence) == ("belt", 4)
    read_prompt_file(out, Policy.of("enforce", folder))
    paths[1].write_bytes(signed(1, noisy(1).to_bytes(), task="door"))
    assert_refused(run("merge", *paths[:2], "-o", out, "--json"), "the task 'belt'", "'door'")


# ---------------------------------------------------------------------- the trial


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PromptFile]:
    """`learned(0)`: a prompt for photos as `photos` has them; `turned` knows each class by another's name."""
    backbone = Backbone.load(TINY_FOLDER, threads=1)
    folder = write_photos(tmp_path_factory.mktemp("learned"), count=4, first=20)
    names = tuple(map(ClassName.from_label, CLASSES))
    text = text_features(backbone, names, TEMPLATE)
    transform = backbone.manifest.image_transform
    pixels = [
        [load_pixels(path, transform) for path in sorted((folder / label).iterdir())] for label in CLASSES
    ]
    means = np.stack([backbone.encode_images(np.stack(photos)).mean(axis=0) for photos in pixels])

    def make(seed: int, *, turned: bool = False) -> PromptFile:
        away = np.random.default_rng(seed).standard_normal(means.shape) / 100
        rows = 20 * (np.roll(means, turned, axis=0) - means.mean(axis=0)) - text + away
        return residual_prompt(
            dict(zip(CLASSES, rows.astype(np.float32), strict=True)),
            bits=8,
            backbone_name=backbone.manifest.name,
            fingerprint=backbone.fingerprint,
            calibration=Calibration(100.0),
        )

    return make


def test_a_merge_is_tried_and_calibrated_on_the_hold_out(
    run: Run, learned: Callable[..., PromptFile], photos: Path, tmp_path: Path
) -> None:
    write_photos(photos, count=2, first=6)  # 24 in all, enough to calibrate on
    paths = write(tmp_path, [learned(1), learned(2)])
    asked = ("--holdout", photos, "--backbone", TINY_FOLDER, "-o", tmp_path / "m.qpt")
    done = run("merge", *paths, *asked, "--json")
    assert done.code == 0, done.err
    said = done.json["holdout"]
    assert said["photos"] == 24
    assert said["merged"]["top1"] >= said["best"]["top1"] > 0.8
    assert all(file["top1"] > 0.8 for file in done.json["files"])
    assert done.json["calibration"] == "hold-out"
    alone = read_prompt_file(tmp_path / "m.qpt").calibration
    assert len(alone.accept_scores) == 5
    assert alone.logit_scale != 100
    for path in paths:  # a fleet that was calibrated knows better how sure it may be
        write_prompt_file(path, replace(read_prompt_file(path), calibration=Calibration(30.0, (0.0,) * 5)))
    done = run("merge", *paths, *asked)
    assert "on 24 hold-out photos: " in done.out
    assert read_prompt_file(tmp_path / "m.qpt").calibration == replace(alone, logit_scale=30.0)


def test_a_merge_that_is_worse_than_the_best_file_is_refused(
    run: Run, learned: Callable[..., PromptFile], photos: Path, tmp_path: Path
) -> None:
    paths = write(tmp_path, [learned(1), *(learned(seed, turned=True) for seed in (2, 3))])
    out = tmp_path / "m.qpt"
    done = run("merge", *paths, "--holdout", photos, "--backbone", TINY_FOLDER, "-o", out, "--json")
    assert (done.code, out.exists()) == (6, False), done.err
    assert f"worse than {paths[0]}" in json.loads(done.out)["error"]


def test_a_hold_out_of_unknown_classes_is_refused(
    run: Run, learned: Callable[..., PromptFile], photos: Path, tmp_path: Path
) -> None:
    write_photos(photos, ["purple rain"], count=1)
    paths = write(tmp_path, [learned(1), learned(2)])
    done = run(
        "merge", *paths, "--holdout", photos, "--backbone", TINY_FOLDER, "-o", tmp_path / "m.qpt", "--json"
    )
    assert_refused(done, "'purple rain', which no prompt knows")
