"""Regularizers of contexts.

Each term against its formula and its slope, through the text tower too; and averages over time.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from qprompt_edge.data.features import Examples
from qprompt_edge.tuning.averaging import run_averaged
from qprompt_edge.tuning.methods import default_training, make_tuning, tune
from qprompt_edge.tuning.qcoop import ROLE, ContextObjective, initial_prompt
from qprompt_edge.tuning.quantizer import quantize
from qprompt_edge.tuning.regularizers import Anchors, Regularizer, regularized_loss
from qprompt_edge.tuning.trainer import codes_of, start, train
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import ClassName

SCALE = 8.0
TERMS = {
    "none": Regularizer(),
    "cosine": Regularizer(cosine=20.0),
    "distance": Regularizer(distance=250.0),
    "divergence": Regularizer(divergence=3.0),
    "sentences": Regularizer(sentences=5.0),
    "all": Regularizer(20.0, 250.0, 3.0, 5.0),
}
KNOWN, NEW = ("cat", "fire engine", "snow leopard"), ("grand piano", "ox")


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    array = rng.standard_normal(shape)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def case(new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features [N,E] of 3 classes and some new names, 7 photos [B,E], and targets and prompts; float64.

    The photos' targets are [B,3], the prompts [T,N,E].
    """
    rng = np.random.default_rng(5)
    targets = np.eye(3)[rng.integers(3, size=7)] / 7
    return unit(rng, 3 + new, 6), unit(rng, 7, 6), targets, unit(rng, 4, 3 + new, 6)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


def by_formula(
    w: np.ndarray, photos: np.ndarray, targets: np.ndarray, by_hand: np.ndarray, terms: Regularizer
) -> float:
    """The papers' formulas, one photo, class and prompt at a time."""
    known, t = w[:3], by_hand[0]
    total = -sum(row @ np.log(softmax(SCALE * known @ x)) for x, row in zip(photos, targets, strict=True))
    total += SCALE / 100 * terms.cosine * (1 - np.mean([a @ b for a, b in zip(w, t, strict=True)]))
    total += (
        SCALE
        / 100
        * terms.distance
        * np.mean([abs(a - b) for a, b in zip(w.ravel(), t.ravel(), strict=True)])
    )
    pairs = [(softmax(SCALE * known @ x), softmax(SCALE * t[:3] @ x)) for x in photos]
    total += terms.divergence * np.mean([(p * np.log(p / q)).sum() for p, q in pairs])
    sentences = [-np.log(softmax(SCALE * w @ row)[name]) for each in by_hand for name, row in enumerate(each)]
    return float(total + terms.sentences * np.mean(sentences))


@pytest.mark.parametrize("new", [0, 2])
@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_its_papers_formula_and_its_gradient_the_slope(name: str, new: int) -> None:
    w, photos, targets, by_hand = case(new)
    anchors = Anchors(TERMS[name], by_hand, NEW[:new])
    loss, gradient = regularized_loss(w, photos, targets, SCALE, anchors)
    assert loss == pytest.approx(by_formula(w, photos, targets, by_hand, TERMS[name]), rel=1e-6)
    for place in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[place] = 1e-5
        up, down = (by_formula(w + s, photos, targets, by_hand, TERMS[name]) for s in (step, -step))
        assert gradient[place] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-6)


def test_names_without_photos_join_the_terms_that_need_none() -> None:
    w, photos, targets, by_hand = case(2)
    for name, terms in TERMS.items():
        gradient = regularized_loss(w, photos, targets, SCALE, Anchors(terms, by_hand, NEW))[1]
        assert np.any(gradient[3:]) == (name not in ("none", "divergence"))


def test_float32_stays_float32() -> None:
    arrays = [array.astype(np.float32) for array in case(2)]
    anchors = Anchors(TERMS["all"], arrays.pop(), NEW)
    assert regularized_loss(*arrays, SCALE, anchors)[1].dtype == np.float32


# ---------------------------------------------------------------------- through the text tower


def objective(backbone: Backbone, terms: Regularizer | None, new: tuple[str, ...] = ()) -> ContextObjective:
    rng, embed = np.random.default_rng(3), backbone.manifest.embed_dim
    features, labels = unit(rng, 6, 1, embed).astype(np.float32), np.repeat(np.arange(3), 2)
    by_hand = unit(rng, 2, 3 + len(new), embed).astype(np.float32)
    anchors = None if terms is None else Anchors(terms, by_hand, new)
    tokens = initial_prompt(backbone, [*KNOWN, *new]).tokens
    return ContextObjective(backbone, tokens, features, labels, 1, anchors)


def context_of(backbone: Backbone) -> np.ndarray:
    return initial_prompt(backbone, KNOWN).context


ALL_PHOTOS = np.arange(6)


@pytest.mark.parametrize("name", TERMS)
def test_the_gradient_at_the_context_is_the_slope(tiny: Backbone, name: str) -> None:
    charged, context = objective(tiny, TERMS[name], NEW), context_of(tiny)
    _, gradients = charged({ROLE: context}, ALL_PHOTOS, 0)
    way = gradients[ROLE] / np.linalg.norm(gradients[ROLE])
    size = 1e-2 * np.linalg.norm(context)
    up, down = (
        charged({ROLE: context + s * way}, ALL_PHOTOS, 0)[0] for s in (np.float32(size), np.float32(-size))
    )
    assert (up - down) / (2 * size) == pytest.approx(np.linalg.norm(gradients[ROLE]), rel=0.02)


@pytest.mark.parametrize("budget", [10**9, 1], ids=["one run", "a run for each class"])
def test_with_no_term_the_gradient_is_that_of_plain_qcoop(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    weights = {ROLE: context_of(tiny)}
    loss, plain = objective(tiny, None)(weights, ALL_PHOTOS, 0)
    monkeypatch.setattr(tiny, "activation_bytes", budget)
    other_loss, other = objective(tiny, Regularizer())(weights, ALL_PHOTOS, 0)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert np.linalg.norm(other[ROLE] - plain[ROLE]) < 1e-4 * np.linalg.norm(plain[ROLE])


def test_without_anchors_a_step_is_the_one_run_that_it_was(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, context = objective(tiny, None), context_of(tiny)
    targets = np.eye(3, dtype=np.float32)[plain.labels] / np.float32(6)
    scale = tiny.manifest.logit_scale
    expected = tiny.loss_and_gradient(context, plain.tokens, plain.features[:, 0], targets, scale)
    for name in ("context_gradient", "encode_classes"):
        monkeypatch.setattr(tiny, name, lambda *_: pytest.fail("another run"))
    loss, gradients = plain({ROLE: context}, ALL_PHOTOS, 0)
    assert loss == expected[0]
    assert gradients[ROLE].tobytes() == expected[1].tobytes()


def examples(backbone: Backbone) -> Examples:
    plain = objective(backbone, None)
    return Examples(tuple(map(ClassName.from_label, KNOWN)), (), plain.labels, plain.features)


@pytest.mark.parametrize("bits", [1, 32])
def test_the_shipped_prompt_knows_the_classes_with_photos_only(tiny: Backbone, bits: int) -> None:
    anchors = objective(tiny, TERMS["all"], NEW).anchors
    config = default_training("qcoop", bits=bits, epochs=3)
    sizes = set()
    for held in (None, anchors):
        prompt, state = tune("qcoop", tiny, examples(tiny), config, anchors=held, averaged=held is not None)
        assert [name.text for name in prompt.classes] == list(KNOWN)
        assert state.step == 3
        sizes.add(len(prompt.to_bytes()))
    assert len(sizes) == 1  # no term costs a byte


def test_a_heavy_pull_keeps_the_classes_where_the_anchors_are(tiny: Backbone) -> None:
    photos, prompt = examples(tiny), initial_prompt(tiny, KNOWN)
    by_hand = tiny.encode_classes(prompt.context, prompt.tokens)
    config = default_training("qcoop", bits=32, epochs=20, relative_rate=500.0)

    def closeness(terms: Regularizer) -> float:
        _, state = tune("qcoop", tiny, photos, config, anchors=Anchors(terms, by_hand[None]))
        return float((tiny.encode_classes(state.latent[ROLE], prompt.tokens) * by_hand).sum()) / 3

    free = closeness(Regularizer())
    for name in ("cosine", "distance", "divergence", "sentences"):
        assert closeness(TERMS[name]) > free, name


def test_deep_methods_refuse_anchors(shipped: Backbone) -> None:
    with pytest.raises(ValueError, match=r"^anchors hold contexts of qcoop, not prompts of qmaple$"):
        make_tuning(
            "qmaple", shipped, examples(shipped), anchors=Anchors(Regularizer(), np.zeros((1, 3, 256)))
        )


# ---------------------------------------------------------------------- averages over time

WEIGHTS = {"a": np.random.default_rng(1).normal(0.3, 0.02, 400).astype(np.float32)}
LABELS = np.repeat(np.arange(2), 8)


def pull(weights: dict[str, np.ndarray], _photos: np.ndarray, _epoch: int) -> tuple[float, dict]:
    return 0.0, {"a": weights["a"] - np.linspace(-1, 1, 400, dtype=np.float32)}


@pytest.mark.parametrize("bits", [1, 4, 32])
def test_an_average_weighs_late_steps_by_a_gaussian_and_is_quantized_then(bits: int) -> None:
    config = default_training("qcoop", bits=bits, epochs=40, lr=0.02)
    first = start(WEIGHTS, config)
    states = [progress.state for progress in train(first, pull, LABELS, config)]
    shares = [math.exp(-0.5 * ((k / 40 - 0.75) / 0.05) ** 2) for k in range(1, 41)]
    mean = sum(g * s.latent["a"].astype(np.float64) for g, s in zip(shares, states, strict=True)) / sum(
        shares
    )
    seen = []
    final = run_averaged(first, pull, LABELS, config, seen.append)
    assert [progress.state.step for progress in seen] == list(range(1, 41))
    assert final.latent["a"] == pytest.approx(mean, rel=1e-5, abs=1e-6)
    assert np.abs(final.latent["a"] - states[-1].latent["a"]).max() > 1e-4
    assert final.step == 40
    if bits < 32:
        shipped = quantize(final.latent["a"], states[-1].codebooks["a"]).values
        assert np.array_equal(codes_of(final)["a"].values, shipped)


def test_an_average_cannot_go_on_from_a_checkpoint() -> None:
    config = default_training("qcoop", bits=32, epochs=4, lr=0.02)
    state = replace(start(WEIGHTS, config), step=2)
    with pytest.raises(ValueError, match=r"^the state has done 2 steps, expected 0: an average needs all of"):
        run_averaged(state, pull, LABELS, config)
