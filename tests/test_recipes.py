"""Every method that the paper compares, run on a small set.

What it judges, what it stores, and how it differs.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_experiments import NAMES, job, write_alike

from qprompt_edge.evaluation.zero_shot import PHOTO_TEMPLATE, class_features, ensemble_features
from qprompt_edge.reporter import Reporter
from qprompt_edge.reproduction import workbench
from qprompt_edge.reproduction.executors import BackboneChoice
from qprompt_edge.reproduction.jobs import BASE, NEW, Outcome, Target
from qprompt_edge.reproduction.recipes import RECIPES, WIDTHS
from qprompt_edge.reproduction.sets import encode_set, find_sets
from qprompt_edge.reproduction.tip_adapter import ALPHAS, BETAS, tip_adapter
from qprompt_edge.reproduction.workbench import PromptJudge, Workbench
from qprompt_edge.tuning.regularizers import Anchors
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import ClassName, PromptFile
from qprompt_runtime.tokenizer import ClassTokens

SHOTS, EPOCHS = 2, 3
CONTEXT = 4 * 192  # "a photo of a", in the width of `small`'s text tower
DEPTH, IMAGE_WIDTH = 2, 256
DEEP, DEEP_IMAGE = DEPTH * 2 * 192, DEPTH * 2 * IMAGE_WIDTH
PROJECTIONS = DEPTH * IMAGE_WIDTH * (192 + 1)
WIDEST_HEAD = 150  # of a prompt file, in bytes


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    folder = tmp_path_factory.mktemp("recipes")
    chosen = find_sets([f"odd={write_alike(folder / 'photos')}"], None)["odd"]
    backbone = BackboneChoice(deep=True).open()
    draws = [(SHOTS, 1), (SHOTS, 2)]
    encoded = encode_set(chosen, draws, backbone, folder / "features", Reporter())
    return Workbench(backbone, {"odd": encoded}, {"epochs": EPOCHS})


@pytest.fixture
def tuned(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[PromptFile, Outcome]]:
    """`tuned(name)`: the prompt that was judged, and the outcome."""
    judged: list[PromptFile] = []

    def judge(prompt: PromptFile, backbone: Backbone) -> PromptJudge:
        judged.append(prompt)
        return PromptJudge(prompt, backbone)

    monkeypatch.setattr(workbench, "PromptJudge", judge)

    def call(name: str, seed: int = 1) -> tuple[PromptFile, Outcome]:
        outcome = bench.run(job(name, SHOTS, seed))
        return judged[-1], outcome

    return call


def weights(prompt: PromptFile) -> np.ndarray:
    return prompt.groups[0].values()


# ---------------------------------------------------------------------- every recipe


def stored(name: str) -> int:
    """Bytes that a method stores, counted by hand: arrays of how many numbers, and bits a number."""
    width = next((b for b in WIDTHS if name.endswith(f"-{b}")), None)
    family = name.removesuffix(f"-{width}")
    if family in ("zero-shot", "ensemble"):
        return 0
    if family == "probe":
        return 4 * (256 * 2 + 2)
    if family == "tip-adapter":
        return SHOTS * 2 * (256 * 4 + 2)
    if family == "qtaskres-1.6":  # three values, five of 512 numbers in a byte
        return 2 * 2 + 103 + 2 * 3 + 2 * 2
    if "taskres" in family:  # two base classes of 256 numbers, scales and offsets of float16
        offsets = 2 * 2
        return offsets + (4 * 512 if width is None else 512 * width // 8 + 2 * 2**width + 2 * 2)
    sizes = {
        "coop-16": (4 * CONTEXT,),
        "qcoop-16": (4 * CONTEXT,),
        "coop-per-class": (2 * CONTEXT,),
        "qcoop-per-class": (2 * CONTEXT,),
        "maple": (DEEP, PROJECTIONS),
        "qmaple-coupled": (DEEP, PROJECTIONS),
        "maple-folded": (DEEP, DEEP_IMAGE),
        "qmaple": (DEEP, DEEP_IMAGE),
    }.get(family, (CONTEXT,))
    return sum(4 * size if width is None else size * width // 8 + 2 * 2**width for size in sizes)


def test_sizes_by_hand() -> None:
    assert (stored("qcoop-1"), stored("ptq-1"), stored("coop")) == (100, 100, 3072)
    assert stored("maple") == 4 * (768 + 98816)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_a_plausible_outcome(bench: Workbench, name: str) -> None:
    outcome, recipe = bench.run(job(name, SHOTS)), RECIPES[name]
    says_nothing_new = name in ("probe", "tip-adapter", "coop-per-class", "qcoop-per-class-1")
    assert recipe.knows_new_classes != says_nothing_new
    assert list(outcome.right) == [Target("odd", BASE)] + [Target("odd", NEW)] * (not says_nothing_new)
    for right in outcome.right.values():
        assert (right.dtype, right.shape) == (np.bool_, (2 * (8 - SHOTS),))
    assert outcome.payload_bytes == stored(name)
    if recipe.learner.startswith("q"):
        assert outcome.file_bytes is not None
        assert 0 < outcome.file_bytes - outcome.payload_bytes < WIDEST_HEAD
        assert outcome.steps == EPOCHS
    else:
        assert (outcome.file_bytes, outcome.steps) == (None, 0)
    assert outcome.seconds > 0
    assert outcome.job == job(name, SHOTS)


@pytest.mark.parametrize("name", ["ensemble", "noise-moderate", "qcoop-1", "qmaple-coupled-1", "tip-adapter"])
def test_the_same_job_gives_the_same_bits(bench: Workbench, name: str) -> None:
    fresh = Workbench(BackboneChoice(deep=True).open(), bench.sets, bench.training)
    first, second = (each.run(job(name, SHOTS)).to_json() for each in (bench, fresh))
    assert {**first, "seconds": None} == {**second, "seconds": None}


def test_the_same_job_learns_the_same_prompt_and_another_seed_another_one(
    tuned: Callable[..., tuple[PromptFile, Outcome]],
) -> None:
    for name in ("qcoop-1", "qmaple-1"):
        first, again, other = (tuned(name, seed)[0].to_bytes() for seed in (1, 1, 2))
        assert first == again
        assert first != other


@pytest.mark.parametrize("bits", WIDTHS)
def test_methods_of_a_width_give_files_of_a_size_and_prompts_of_their_own(
    tuned: Callable[..., tuple[PromptFile, Outcome]], bits: int
) -> None:
    names = ("qcoop", "no-normalisation", "no-cac", "ptq", "kmeans")
    *others, kmeans = prompts = [tuned(f"{name}-{bits}")[0] for name in names]
    assert {prompt.groups[0].bits for prompt in prompts} == {bits}
    assert len({len(prompt.to_bytes()) for prompt in prompts}) == 1
    assert len({prompt.to_bytes() for prompt in others}) == 4
    # with clusters made anew at every step it does not matter whether they are of normalised weights
    assert np.allclose(weights(kmeans), weights(others[2]), atol=1e-3)
    assert not np.allclose(weights(kmeans), weights(others[1]), atol=1e-3)


# ---------------------------------------------------------------------- steadier contexts

STEADIER = ("kgcoop", "kgcoop-half", "consistency", "averaged", "lasp", "lasp-names", "steady")


@pytest.mark.parametrize("name", STEADIER)
@pytest.mark.parametrize("bits", [1, 32])
def test_a_steadier_context_is_another_one_of_the_same_size(
    tuned: Callable[..., tuple[PromptFile, Outcome]], name: str, bits: int
) -> None:
    plain, outcome = tuned("qcoop-1" if bits == 1 else "coop")
    prompt, steadier = tuned(f"{name}-1" if bits == 1 else name)
    assert prompt.groups[0].bits == bits
    assert steadier.file_bytes == outcome.file_bytes
    assert bits == 1 or not np.array_equal(weights(prompt), weights(plain))  # in three steps one bit may stay


def test_anchors_are_the_sets_own_template_then_the_ensemble(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Anchors | None] = []
    tune = workbench.tune

    def watched(*arguments: Any, **settings: Any) -> Any:
        seen.append(settings["anchors"])
        return tune(*arguments, **settings)

    monkeypatch.setattr(workbench, "tune", watched)
    chosen = bench.sets["odd"]
    other = replace(chosen, photos=replace(chosen.photos, template="{} texture."))
    for name in ("qcoop-1", "lasp", "lasp-names"):
        Workbench(bench.backbone, {"odd": other}, bench.training).run(job(name, SHOTS))
    classes = tuple(map(ClassName.from_label, NAMES))
    prompts = [class_features(bench.backbone, classes, t) for t in ("{} texture.", *TEMPLATES)]
    plain, known, all_names = seen
    assert plain is None
    assert known is not None
    assert all_names is not None
    assert (known.new_names, all_names.new_names) == ((), NAMES[2:])
    assert np.allclose(all_names.features, prompts, atol=1e-5)
    assert np.allclose(known.features, np.stack(prompts)[:, :2], atol=1e-5)


# ---------------------------------------------------------------------- noise, and quantizing afterwards


def test_noise_changes_what_is_learned_and_not_what_is_stored(
    bench: Workbench, tuned: Callable[..., tuple[PromptFile, Outcome]]
) -> None:
    plain, outcome = tuned("coop")
    deviation = float(bench.backbone.embed_text("a photo of a").std())
    learned = [weights(plain)]
    for name in ("noise-weak", "noise-moderate", "noise-strong"):
        prompt, noisy = tuned(name)
        assert (noisy.payload_bytes, noisy.file_bytes) == (outcome.payload_bytes, outcome.file_bytes)
        learned.append(weights(prompt))
        # what is stored has moved by steps of the optimizer, it has no noise in it
        assert np.abs(weights(prompt) - weights(plain)).max() < 0.5 * deviation
    assert len({array.tobytes() for array in learned}) == 4


@pytest.mark.parametrize("bits", WIDTHS)
def test_quantizing_afterwards_takes_the_nearest_of_a_few_values(
    tuned: Callable[..., tuple[PromptFile, Outcome]], bits: int
) -> None:
    plain, quantized = weights(tuned("coop")[0]), tuned(f"ptq-{bits}")[0]
    values = weights(quantized)
    codebook = np.array(quantized.groups[0].codebook)
    assert 2 ** (bits - 1) < len(np.unique(values)) <= 2**bits
    assert quantized.groups[0].bits == bits
    distance = np.abs(plain[..., None] - codebook).min(axis=-1)
    assert np.allclose(np.abs(plain - values), distance, atol=1e-4)  # centroids are kept in half precision


def test_quantized_while_learning_is_not_quantized_afterwards(
    tuned: Callable[..., tuple[PromptFile, Outcome]],
) -> None:
    assert not np.array_equal(weights(tuned("qcoop-1")[0]), weights(tuned("ptq-1")[0]))


# ---------------------------------------------------------------------- hand-written prompts

TEMPLATES = (  # CoOp, trainers/imagenet_templates.py, IMAGENET_TEMPLATES_SELECT
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


def of_sentence(backbone: Backbone, sentence: str) -> np.ndarray:
    """[E] feature of a whole sentence: all of it goes in as vectors, so nothing is cut or joined."""
    end = ClassTokens(np.array([[backbone.manifest.text.end_token]]), np.array([0]))
    return backbone.encode_classes(backbone.embed_text(sentence)[None], end)[0]


@pytest.mark.parametrize("template", [PHOTO_TEMPLATE, "{} texture.", "a centered photo of {}.", *TEMPLATES])
def test_a_template_is_the_sentence_with_the_name_in_it(tiny: Backbone, template: str) -> None:
    names = ("blue sky", "ox", "three long words")
    expected = np.stack([of_sentence(tiny, template.format(name)) for name in names])
    assert np.allclose(
        class_features(tiny, tuple(map(ClassName.from_label, names)), template), expected, atol=1e-5
    )


def test_zero_shot_guesses_the_nearest_sentence(bench: Workbench) -> None:
    chosen = bench.sets["odd"]
    outcome = bench.run(job("zero-shot", SHOTS))
    for part, names in ((BASE, NAMES[:2]), (NEW, NAMES[2:])):
        photos = chosen.part(chosen.photos.judged((SHOTS, 1)), part)
        sentences = np.stack([of_sentence(bench.backbone, f"a photo of a {name}.") for name in names])
        guesses = (photos.plain @ sentences.T).argmax(axis=1)
        assert np.array_equal(outcome.right[Target("odd", part)], guesses == photos.labels)


def test_zero_shot_takes_the_template_of_the_set_that_is_judged(bench: Workbench) -> None:
    chosen = bench.sets["odd"]
    photos = chosen.part(chosen.photos.judged((SHOTS, 1)), BASE)

    def right(template: str) -> list[bool]:
        sentences = np.stack(
            [of_sentence(bench.backbone, template.format(name.text)) for name in photos.classes]
        )
        return ((photos.plain @ sentences.T).argmax(axis=1) == photos.labels).tolist()

    usual = right(PHOTO_TEMPLATE)
    template = next(t for t in (*TEMPLATES, "{} texture.", "{}, a colour.") if right(t) != usual)
    other = replace(chosen, photos=replace(chosen.photos, template=template))
    outcome = Workbench(bench.backbone, {"odd": other}, bench.training).run(job("zero-shot", SHOTS))
    assert outcome.right[Target("odd", BASE)].tolist() == right(template)


def test_the_ensemble_is_the_mean_of_eight_templates_of_length_one(tiny: Backbone) -> None:
    features = ensemble_features(tiny, tuple(map(ClassName.from_label, NAMES)), "{} texture.")
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    sentences = [[of_sentence(tiny, t.format(name)) for name in NAMES] for t in (*TEMPLATES, "{} texture.")]
    mean = np.mean(sentences, axis=0)
    assert np.allclose(features, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)


# ---------------------------------------------------------------------- Tip-Adapter


def unit_rows(rng: np.random.Generator, rows: int, size: int = 6) -> np.ndarray:
    array = rng.standard_normal((rows, size))
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def tip_logits(  # the paper's equations, photo by photo and class by class
    photo: np.ndarray, names: np.ndarray, keys: np.ndarray, labels: np.ndarray, s: float, a: float, b: float
) -> list[float]:
    votes = [0.0] * len(names)
    for key, label in zip(keys, labels, strict=True):
        votes[label] += float(np.exp(-b * (1 - float(photo @ key))))
    return [s * float(photo @ name) + a * vote for name, vote in zip(names, votes, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_tip_adapter_is_the_papers_formula_with_factors_chosen_by_leaving_one_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(3), 5))
    names, scale = unit_rows(rng, 3), 4.0
    photos = unit_rows(rng, 15) + unit_rows(np.random.default_rng(99), 3)[labels] * 0.7
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    right = {}
    for beta in BETAS:
        for alpha in ALPHAS:
            guesses = []
            for i, photo in enumerate(photos):
                rest = np.arange(15) != i
                scores = tip_logits(photo, names, photos[rest], labels[rest], scale, alpha, beta)
                guesses.append(int(np.argmax(scores)))
            right[alpha, beta] = int((np.array(guesses) == labels).sum())
    found = tip_adapter(names, photos, labels, scale)
    assert len(set(right.values())) > 1  # or there would be nothing to choose
    assert right[found.alpha, found.beta] == max(right.values())
    tests = unit_rows(rng, 7)
    expected = [tip_logits(test, names, photos, labels, scale, found.alpha, found.beta) for test in tests]
    assert np.allclose(found.logits(tests), expected, rtol=1e-4, atol=1e-4)
