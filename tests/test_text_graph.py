"""The text graph and its hand-written gradient, against torch autograd through open_clip's own `encode_text`.

The reference runs at full length, in double precision, and shares nothing with the graph: context vectors
enter it through a hook on the token embedding.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("open_clip")
pytest.importorskip("onnx")

import onnx
import torch

from qprompt_runtime.backbone import Backbone
from qprompt_runtime.class_chunks import class_chunks
from qprompt_runtime.tokenizer import ClassTokens

pytestmark = pytest.mark.export

LENGTH = 77
START, END = 49406, 49407
MODELS = ["small-causal", "small-quickgelu", "small-noncausal"]
SHAPES = [(2, 2, 1), (10, 4, 4), (13, 5, 2), (33, 7, 4), (4, 60, 16), (3, 72, 4)]
"""Classes, tokens behind the context at most, context vectors; 13 do not divide into equal blocks."""
FLAT_SHAPES = [(1, 2, 1), (1, 5, 4), (5, 1, 4)]
"""One class, or classes without a word: the loss is flat there, but its parts are not."""


class Task(NamedTuple):
    """Everything that a loss depends on."""

    context: np.ndarray
    ids: np.ndarray
    tokens: ClassTokens
    images: np.ndarray
    targets: np.ndarray
    logit_scale: float


def make_task(
    backbone: Backbone, classes: int, length: int, vectors: int, *, per_class: bool = False
) -> Task:
    """Random classes of different lengths, the longest with `length` tokens behind the context."""
    rng = np.random.default_rng([classes, length, vectors])
    layout = backbone.manifest.text
    ends = rng.integers(length, size=classes)
    ends[rng.integers(classes)] = length - 1
    ids = np.zeros((classes, LENGTH), np.int64)
    ids[:, 0] = START
    ids[:, 1 : 1 + vectors] = 320
    for row, end in zip(ids, ends, strict=True):
        row[1 + vectors : 1 + vectors + end] = rng.integers(START, size=end)
        row[1 + vectors + end] = END
    own = ids[:, 1 + vectors :][:, : length if layout.causal else None]
    images = rng.normal(size=(6, backbone.manifest.embed_dim)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    targets = np.eye(classes, dtype=np.float32)[rng.integers(classes, size=6)] / np.float32(6)
    context = rng.normal(0, 0.1, (classes if per_class else 1, vectors, layout.width)).astype(np.float32)
    return Task(context, ids, ClassTokens(own.copy(), ends.astype(np.int64)), images, targets, 20.0)


def torch_features(model: Any, ids: np.ndarray, context: Any) -> Any:
    """open_clip's `encode_text`, with context [G,n,D] in the places behind the start token."""
    count = context.shape[1]

    def put_context(_module: Any, _inputs: Any, rows: Any) -> Any:
        inner = context.expand(len(rows), -1, -1)
        return torch.cat([rows[:, :1], inner, rows[:, 1 + count :]], dim=1)

    embedding = model.text.token_embedding if hasattr(model, "text") else model.token_embedding
    handle = embedding.register_forward_hook(put_context)
    try:
        features = model.encode_text(torch.from_numpy(ids))
    finally:
        handle.remove()
    return features / features.norm(dim=1, keepdim=True)


def torch_answer(model: Any, task: Task) -> tuple[np.ndarray, float, np.ndarray]:
    """Features, loss and gradient by autograd, in double precision."""
    context = torch.tensor(task.context, dtype=torch.float64, requires_grad=True)
    features = torch_features(model, task.ids, context)
    logits = task.logit_scale * torch.from_numpy(task.images).double() @ features.T
    loss = -(torch.from_numpy(task.targets).double() * logits.log_softmax(dim=1)).sum()
    loss.backward()
    return features.detach().numpy(), float(loss.detach()), context.grad.numpy()


def graph_answer(backbone: Backbone, task: Task) -> tuple[np.ndarray, float, np.ndarray]:
    features = backbone.encode_classes(task.context, task.tokens)
    loss, gradient = backbone.loss_and_gradient(
        task.context, task.tokens, task.images, task.targets, task.logit_scale
    )
    return features, loss, gradient


def relative(value: Any, expected: Any) -> float:
    """L2 distance as a share of the expected value's length."""
    return float(np.linalg.norm(np.subtract(value, expected)) / np.linalg.norm(expected))


@pytest.fixture(scope="session")
def exact(small_model: Callable[[str], Any]) -> Callable[[str], Any]:
    """A small model in double precision; copy it to change it."""
    return cache(lambda name: copy.deepcopy(small_model(name).model).double())


@pytest.mark.parametrize("per_class", [False, True], ids=["shared", "per-class"])
@pytest.mark.parametrize(("classes", "length", "vectors"), SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_features_and_gradient_equal_autograd(
    name: str, classes: int, length: int, vectors: int, per_class: bool, small_backbone: Any, exact: Any
) -> None:
    backbone = small_backbone(name)
    task = make_task(backbone, classes, length, vectors, per_class=per_class)
    features, loss, gradient = graph_answer(backbone, task)
    expected_features, expected_loss, expected_gradient = torch_answer(exact(name), task)
    assert features.shape == (classes, 32)
    assert gradient.shape == task.context.shape
    assert relative(features, expected_features) <= 1e-5, (
        f"features: {relative(features, expected_features):.2e}"
    )
    assert loss == pytest.approx(expected_loss, rel=1e-5, abs=1e-6)
    gap = relative(gradient, expected_gradient)
    assert gap <= 1e-5, f"gradient: {gap:.2e}"


@pytest.mark.parametrize(("classes", "length", "vectors"), [*FLAT_SHAPES, (10, 4, 4), (13, 5, 2)])
@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_for_a_given_cotangent_equals_autograd(
    name: str, classes: int, length: int, vectors: int, small_backbone: Any, exact: Any
) -> None:
    backbone = small_backbone(name)
    task = make_task(backbone, classes, length, vectors)
    cotangent = np.random.default_rng(0).normal(size=(classes, 32)).astype(np.float32)
    gradient = backbone.context_gradient(task.context, task.tokens, cotangent)

    context = torch.tensor(task.context, dtype=torch.float64, requires_grad=True)
    (torch.from_numpy(cotangent) * torch_features(exact(name), task.ids, context)).sum().backward()
    gap = relative(gradient, context.grad.numpy())
    assert gap <= 1e-5, f"gradient: {gap:.2e}"


@pytest.mark.parametrize("name", MODELS)
def test_the_hook_changes_nothing_when_the_context_is_the_text(
    name: str, small_backbone: Any, exact: Any
) -> None:
    """The reference itself: with the words' own embeddings it is plain `encode_text`."""
    backbone, model = small_backbone(name), exact(name)
    task = make_task(backbone, 5, 4, 4)
    embedding = model.text.token_embedding if hasattr(model, "text") else model.token_embedding
    with torch.no_grad():
        plain = model.encode_text(torch.from_numpy(task.ids), normalize=True)
        context = embedding(torch.from_numpy(task.ids[:1, 1:5]))
        assert torch.equal(
            torch_features(model, task.ids, context).round(decimals=12), plain.round(decimals=12)
        )


@pytest.mark.parametrize("per_class", [False, True], ids=["shared", "per-class"])
@pytest.mark.parametrize("name", ["small-causal", "small-noncausal"])
@pytest.mark.parametrize("budget", [1, 300_000])
def test_chunks_of_classes_give_the_same_answer(
    name: str, budget: int, per_class: bool, small_backbone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = small_backbone(name)
    task = make_task(backbone, 10, 6, 4, per_class=per_class)
    features, loss, gradient = graph_answer(backbone, task)
    monkeypatch.setattr(backbone, "activation_bytes", budget)
    assert len(class_chunks(task.tokens, backbone.manifest.text, 4, budget)) > 1
    chunked_features, chunked_loss, chunked_gradient = graph_answer(backbone, task)
    assert np.abs(chunked_features - features).max() <= 1e-6
    assert chunked_loss == pytest.approx(loss, rel=1e-5)
    gap = relative(chunked_gradient, gradient)
    assert gap <= 1e-5, f"gradient: {gap:.2e}"


@pytest.mark.parametrize("name", MODELS)
def test_a_class_does_not_depend_on_the_others(name: str, small_backbone: Any) -> None:
    backbone = small_backbone(name)
    task = make_task(backbone, 10, 7, 4)
    together = backbone.encode_classes(task.context, task.tokens)
    causal = backbone.manifest.text.causal
    for index, end in enumerate(task.tokens.ends):
        own = slice(0, int(end) + 1 if causal else None)
        alone = ClassTokens(
            task.tokens.tokens[index : index + 1, own].copy(), task.tokens.ends[index : index + 1]
        )
        gap = np.abs(backbone.encode_classes(task.context, alone)[0] - together[index]).max()
        assert gap <= 1e-6, f"class {index}: {gap:.2e}"


def test_padding_behind_the_end_changes_nothing_in_a_causal_tower(small_backbone: Any) -> None:
    backbone = small_backbone("small-causal")
    task = make_task(backbone, 5, 6, 4)
    longer = ClassTokens(np.pad(task.tokens.tokens, ((0, 0), (0, 9)), constant_values=777), task.tokens.ends)
    gap = np.abs(
        backbone.encode_classes(task.context, longer) - backbone.encode_classes(task.context, task.tokens)
    )
    assert gap.max() <= 1e-6, f"{gap.max():.2e}"


def int8_table(table: np.ndarray) -> np.ndarray:
    """What a token table becomes when each row is stored as int8 with one scale."""
    scale = np.abs(table).max(axis=1, keepdims=True).astype(np.float64) / 127
    return np.rint(table / scale) * scale


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_storage_rounds_the_weights_and_nothing_else(precision: str, small_backbone: Any, exact: Any) -> None:
    """With the stored weights put into the torch model, graph and autograd agree as closely as in float32."""
    model = copy.deepcopy(exact("small-causal"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "token_embedding.weight":
                parameter.copy_(torch.from_numpy(int8_table(parameter.float().numpy())))
            elif parameter.ndim >= 2 and not name.startswith("visual"):
                parameter.copy_(parameter.float().half().double())
    backbone = small_backbone("small-causal", precision)
    task = make_task(backbone, 10, 4, 4)
    features, _, gradient = graph_answer(backbone, task)
    expected_features, _, expected_gradient = torch_answer(model, task)
    for what, value, expected in [
        ("features", features, expected_features),
        ("gradient", gradient, expected_gradient),
    ]:
        assert relative(value, expected) <= 1e-4, f"{what}: {relative(value, expected):.2e}"


@pytest.mark.parametrize("name", ["small-causal", "small-noncausal"])
def test_matrices_that_stay_narrow_give_the_same(name: str, small_bundle: Any, small_backbone: Any) -> None:
    """As without tuning, and with `--max-memory`: widened in every run, each for one product."""
    packed, narrow = small_backbone(name, "fp16"), Backbone.load(small_bundle(name, "fp16"), threads=1)
    narrow.spare_memory = True
    task = make_task(packed, 7, 3, 4)
    packed.open_for_tuning()
    for value, expected in zip(graph_answer(narrow, task), graph_answer(packed, task), strict=True):
        assert relative(value, expected) <= 1e-5


@pytest.mark.parametrize("graph", ["text", "text-gradient"])
def test_what_widens_matrices_comes_first_in_a_graph(graph: str, small_bundle: Any) -> None:
    """onnxruntime then widens each just before its product; all would take twice the memory of the file."""
    model = onnx.load(small_bundle("small-causal", "int8") / f"{graph}.onnx", load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    widens = [node.op_type == "Cast" and node.input[0] in stored for node in model.graph.node]
    assert sum(widens) > 8
    assert all(widens[: sum(widens)])


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_stored_precisions_stay_close_to_the_original(
    precision: str, small_backbone: Any, exact: Any
) -> None:
    backbone = small_backbone("small-causal", precision)
    task = make_task(backbone, 10, 4, 4)
    features, _, gradient = graph_answer(backbone, task)
    expected_features, _, expected_gradient = torch_answer(exact("small-causal"), task)
    cosine = (features * expected_features).sum(axis=1).min()
    assert cosine >= 0.999, f"cosine: {cosine:.5f}"
    assert relative(gradient, expected_gradient) <= 0.05, (
        f"gradient: {relative(gradient, expected_gradient):.2e}"
    )


@pytest.mark.parametrize("name", MODELS)
def test_embed_text_gives_the_token_embeddings(name: str, small_backbone: Any, small_model: Any) -> None:
    import open_clip

    model = small_model(name).model
    embedding = model.text.token_embedding if hasattr(model, "text") else model.token_embedding
    ids = open_clip.tokenizer.SimpleTokenizer().encode("a photo of a")
    expected = embedding.weight.detach().numpy()[ids]
    assert np.array_equal(small_backbone(name).embed_text("a photo of a"), expected)
