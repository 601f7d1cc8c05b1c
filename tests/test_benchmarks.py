"""The benchmarks compare what they say they compare.

Both sides have the same model, the same loss and the same gradient.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_models import SmallModel

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")
torch_coop = pytest.importorskip("benchmarks.torch_coop")

from benchmarks import adaptation  # noqa: E402
from benchmarks.class_names import CALTECH_101, CIFAR_10, known_names, made_names  # noqa: E402
from benchmarks.installed import closure  # noqa: E402
from benchmarks.photo_folders import choose  # noqa: E402
from benchmarks.processes import ROOT, ChildError, last_json, run  # noqa: E402
from benchmarks.roofline import against_sgemm, multiply_adds  # noqa: E402
from benchmarks.tables import duration, markdown_table, times  # noqa: E402
from qprompt_exporters.models import load_source  # noqa: E402
from qprompt_runtime.backbone import Backbone  # noqa: E402

pytestmark = pytest.mark.export

NAMES = ("cat", "fire_engine", "grand piano", "t-shirt")
LABELS = np.array([0, 1, 2, 3, 1, 0])


@pytest.fixture
def coop(small_model: Callable[[str], SmallModel]) -> Callable[..., Any]:
    def make(name: str, *, trimmed: bool) -> Any:
        source = load_source(name, checkpoint=small_model(name).checkpoint)
        return torch_coop.CustomCLIP(source, NAMES, trimmed=trimmed)

    return make


def unit(count: int, width: int) -> np.ndarray:
    rows = np.random.default_rng(3).standard_normal((count, width), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def torch_loss_and_gradient(model: Any) -> tuple[float, np.ndarray]:
    loss = model.loss(torch.from_numpy(unit(len(LABELS), 32)), torch.from_numpy(LABELS))
    (gradient,) = torch.autograd.grad(loss, model.prompts.context)
    return float(loss.detach()), gradient.numpy()


@pytest.mark.parametrize("name", ["small-causal", "small-noncausal"])
def test_pytorch_coop_has_our_loss_and_gradient(
    name: str, coop: Callable[..., Any], small_backbone: Callable[..., Backbone]
) -> None:
    loss, gradient = torch_loss_and_gradient(coop(name, trimmed=False))
    backbone = small_backbone(name)
    context = backbone.embed_text(torch_coop.CONTEXT)
    tokens = backbone.tokenize([name.replace("_", " ") for name in NAMES], ("", "."), len(context))
    targets_ = np.eye(len(NAMES), dtype=np.float32)[LABELS] / np.float32(len(LABELS))
    ours, our_gradient = backbone.loss_and_gradient(
        context[None], tokens, unit(len(LABELS), 32), targets_, backbone.manifest.logit_scale
    )
    assert ours == pytest.approx(loss, rel=1e-3)
    gap = np.linalg.norm(our_gradient[0] - gradient) / np.linalg.norm(gradient)
    assert gap < 1e-3, gap


@pytest.mark.parametrize(("name", "length"), [("small-causal", 10), ("small-noncausal", 77)])
def test_trimmed_text_changes_nothing(name: str, length: int, coop: Callable[..., Any]) -> None:
    full, trimmed = (coop(name, trimmed=value) for value in (False, True))
    assert full.prompts.ids.shape[1] == 77
    assert trimmed.prompts.ids.shape[1] <= length if length < 77 else trimmed.prompts.ids.shape[1] == 77
    loss, gradient = torch_loss_and_gradient(full)
    other, other_gradient = torch_loss_and_gradient(trimmed)
    assert other == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(other_gradient, gradient, atol=1e-5 * np.abs(gradient).max())


def test_cached_features_train_as_encoded_images_do(coop: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    pixels, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    trained = []
    for cached in (False, True):
        model = coop("small-causal", trimmed=cached)
        seconds, losses = torch_coop.time_steps(model, pixels, labels, 3, cached=cached)
        assert len(seconds) == len(losses) == 3
        trained.append(losses)
        assert all(value.grad is None for value in model.clip.parameters())
    assert trained[0] == pytest.approx(trained[1], rel=1e-4)


# ---------------------------------------------------------------------- what both sides are given


def test_names_are_as_many_as_they_say() -> None:
    assert known_names(10) is CIFAR_10
    assert known_names(100) is CALTECH_101
    assert len(set(CALTECH_101)) == 100
    with pytest.raises(ValueError, match="not of 7"):
        known_names(7)


def test_made_names_have_the_lengths_asked_for(tiny: Backbone) -> None:
    names = made_names(tiny.folder / "tokenizer.json", (1, 3, 2), 300)
    assert len(set(names)) == 300
    counts = [len(tiny.tokenizer.encode(name)) for name in names]
    assert counts == list(itertools.islice(itertools.cycle((1, 3, 2)), 300))


def test_ten_classes_of_sixteen_photos_take_no_photo_twice() -> None:
    chosen = choose(10, 16)
    photos = [path for paths in chosen.values() for path in paths]
    assert [len(paths) for paths in chosen.values()] == [16] * 10
    assert len(set(photos)) == adaptation.PHOTOS == 160
    assert adaptation.STEPS == 250
    with pytest.raises(ValueError, match="too few photos for 16 classes"):
        choose(16, 16)


# ---------------------------------------------------------------------- children


def in_a_small_parent(code: str) -> str:
    """Standard output of code in a process that holds nothing, as the benchmarks' own does."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_child_is_weighed_and_answers() -> None:
    child = (
        "import json; held = bytearray(150 * 10**6); print('noise'); print(json.dumps({'held': len(held)}))"
    )
    code = (
        "import dataclasses, json, sys; from benchmarks.processes import run; "
        f"print(json.dumps(dataclasses.asdict(run([sys.executable, '-c', {child!r}]))))"
    )
    found = json.loads(in_a_small_parent(code))
    assert found["answer"] == {"held": 150_000_000}
    assert 150 < found["peak_mb"] < 180
    assert found["seconds"] > 0


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(ChildError, match=r"ended with code 3:\n(.|\n)*no such thing"):
        run([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


@pytest.mark.parametrize("text", ["", "no json", "{}\nno json\n"])
def test_no_json_at_the_end_is_no_answer(text: str) -> None:
    assert last_json(text) is None


def test_what_measures_imports_nothing_large() -> None:
    large = ("torch", "onnxruntime", "numpy", "PIL")
    code = f"import sys, benchmarks.performance; print([name for name in {large} if name in sys.modules])"
    assert in_a_small_parent(code) == "[]"


def test_our_side_runs_without_torch() -> None:
    assert in_a_small_parent("import sys, benchmarks.our_steps; print('torch' in sys.modules)") == "False"


def test_our_side_times_every_part() -> None:
    command = [sys.executable, "-m", "benchmarks.our_steps", "--backbone", "small", "--threads", "1"]
    options = ["--repeats", "2", "--warm-up", "0", "--classes", "3", "--parts", "text,trainer,classes,photos"]
    answer = run([*command, *options], threads=1).answer
    assert {name: len(times_) for name, times_ in answer["seconds"].items()} == dict.fromkeys(
        ("text", "trainer", "classes", "photos"), 2
    )
    assert answer["rows"] == [3, 3, 3]


def test_the_closure_follows_requirements_but_no_extras() -> None:
    ours = closure(("qprompt-edge",))
    assert {"qprompt-edge", "numpy", "onnxruntime", "pillow"} <= set(ours)
    assert "torch" not in ours
    assert "torch" in closure(("open_clip_torch",))


# ---------------------------------------------------------------------- arithmetic


def counted(rows: list[int], context: int, width: int, layers: int, embed: int, batch: int) -> int:
    """Multiply-adds of a step, matrix by matrix and row by row, without any formula for sums."""
    places = [(None, i) for i in range(1 + context)]
    places += [(c, 1 + context + j) for c, length in enumerate(rows) for j in range(length)]
    total = 0
    for layer in range(layers):
        last, first = layer == layers - 1, layer == 0
        for owner, place in places:
            is_end = owner is not None and place == context + rows[owner]
            takes_gradient = place > 0
            is_context = owner is None and takes_gradient
            queries = is_end or not last
            products = 2 + (10 if queries else 0)  # keys and values; queries, output and the MLP
            total += products * width**2
            if takes_gradient:
                total += products * width**2
                if (
                    first and not is_context
                ):  # the gradient at the tower's input is needed at the context only
                    total -= 3 * width**2
            if queries:
                total += (place + 1) * 6 * width  # two products forward, four backward
    return total + 2 * len(rows) * width * embed + 2 * batch * len(rows) * embed


@pytest.mark.parametrize("rows", [[3], [3, 4, 7], [2] * 10])
def test_multiply_adds_are_those_of_each_row(rows: list[int]) -> None:
    for context, layers in ((1, 2), (4, 3), (16, 12)):
        found = multiply_adds(rows, context, 8, layers, 6, 5)
        assert found["total"] == counted(rows, context, 8, layers, 6, 5)
        assert found["total"] == found["linear"] + found["attention"] + found["heads"]


def test_the_share_is_against_the_faster_product() -> None:
    answer = {
        "causal": True, "rows": [3], "context": 1, "width": 8, "layers": 2, "embed": 6, "batch": 5, "classes": 1,
        "seconds": {"text": [1.0, 2.0, 9.0], "sgemm numpy": [4.0], "sgemm onnxruntime": [2.0]},
    }  # fmt: skip
    found = against_sgemm(answer)
    assert found["sgemm_by"] == "onnxruntime"
    assert found["share"] == pytest.approx(found["multiply_adds"]["total"] / 2.0 / (2048**3 / 2.0))
    with pytest.raises(ValueError, match="causal"):
        against_sgemm({**answer, "causal": False})


def test_a_whole_adaptation_in_pytorch_is_computed_from_its_steps() -> None:
    answers = [
        {"steps": [2.0, 3.0, 4.0], "encode": 1.0, "batch": 32, "peak_mb": 5.0},
        {"steps": [3.0], "encode": 1.0, "batch": 32, "peak_mb": 9.0},
    ]
    assert adaptation.torch_summary(answers, cached=False)["seconds"] == 250 * 3.0
    cached = adaptation.torch_summary(answers, cached=True)
    assert cached["seconds"] == 5 * 1.0 + 250 * 3.0
    assert (cached["timed_steps"], cached["peak_mb"]) == (4, 9.0)
    eight = [{**answer, "batch": 8} for answer in answers]  # 24 photos more, an eighth of a second each
    assert adaptation.torch_summary(eight, cached=False)["seconds"] == 250 * (3.0 + 24 / 8)
    assert adaptation.torch_summary(eight, cached=True)["seconds"] == 160 / 8 + 250 * 3.0


def test_figures_are_written_with_their_units() -> None:
    assert [duration(value) for value in (0.0123, 0.5, 1.5, 15.0, 600.0)] == [
        "12.3 ms", "500 ms", "1.50 s", "15.0 s", "10.0 min",
    ]  # fmt: skip
    assert [times(value) for value in (2.84, 120.4)] == ["2.8x", "120x"]
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"
