"""The benchmarks compare what they say they compare: the same model, the same loss, the same gradient, on both sides."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SmallModel

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")
torch_coop = pytest.importorskip("benchmarks.torch_coop")

from benchmarks import adaptation, document, performance, steps, targets  # noqa: E402
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
        {"steps": [2.0, 3.0, 4.0], "encode": 1.0, "peak_mb": 5.0},
        {"steps": [3.0], "encode": 1.0, "peak_mb": 9.0},
    ]
    assert adaptation._torch_summary(answers, cached=False)["seconds"] == 250 * 3.0
    cached = adaptation._torch_summary(answers, cached=True)
    assert cached["seconds"] == 5 * 1.0 + 250 * 3.0
    assert (cached["timed_steps"], cached["peak_mb"]) == (4, 9.0)


def test_figures_are_written_with_their_units() -> None:
    assert [duration(value) for value in (0.0123, 0.5, 1.5, 15.0, 600.0)] == [
        "12.3 ms", "500 ms", "1.50 s", "15.0 s", "10.0 min",
    ]  # fmt: skip
    assert [times(value) for value in (2.84, 120.4)] == ["2.8x", "120x"]
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


# ---------------------------------------------------------------------- the page


def ours_row(seconds: float, count: int) -> dict[str, Any]:
    return {"seconds": seconds, "encode": 3.0, "train": 4.0, "steps": count, "peak_mb": 500.0, "runs": 5}


@pytest.fixture
def figures() -> dict[str, Any]:
    whole = {
        "rounds": 5,
        "ours": {"int8, defaults": ours_row(8.0, 100), "int8, 250 steps": ours_row(16.0, 250)},
        "authors": {"seconds": 1600.0, "step": 6.4, "encode": 0.0, "steps": 250, "timed_steps": 5, "peak_mb": 1700.0},
        "trimmed": {"seconds": 80.0, "step": 0.3, "encode": 5.0, "steps": 250, "timed_steps": 15, "peak_mb": 1500.0},
    }  # fmt: skip
    step = {
        "ours": 0.04, "authors": 2.0, "trimmed": 0.1, "ours_text_graph": 0.039, "ratio": 50.0, "ratio_trimmed": 2.5,
        "counted_steps": {"ours": 20, "authors": 5, "trimmed": 15},
        "peak_mb": {"ours": 400.0, "authors": 1700.0, "trimmed": 1600.0},
    }  # fmt: skip
    machine = {
        "processor": "a processor", "architecture": "x86_64", "cores": 2, "threads": 2, "vector": "avx2",
        "byte_products": "", "memory_mb": 24000, "system": "Linux", "python": "3.11.1", "versions": {"numpy": "2.4"},
    }  # fmt: skip
    return {
        "machine": machine,
        "adaptation": {"ViT-B-16": whole},
        "steps": {"10": step, "100": {**step, "ratio": 20.0}},
    }


def test_the_line_for_scripts_has_the_ratios(figures: dict[str, Any]) -> None:
    line = adaptation.summary(figures["adaptation"], figures["steps"], {"ours_mb": 200.0})
    assert line["adaptation_ratio"] == 200.0
    assert line["adaptation_ratio_trimmed"] == 10.0
    assert line["adaptation_ratio_of"] == "ViT-B-16, int8, defaults"
    assert (line["step_ratio_10"], line["step_ratio_100"]) == (50.0, 20.0)
    assert line["step_ratio_10_trimmed"] == 2.5
    assert line["computed_from"]["installed"] == {"ours_mb": 200.0}


def test_the_page_takes_every_figure_from_the_file(figures: dict[str, Any]) -> None:
    page = document.write(figures)
    assert "| whole adaptation, ViT-B/16, int8, defaults | at least 100x | 200x | **200x** | aim |" in page
    assert "| one step, ViT-B/32, 10 classes | at least 45x | 90x | **50x** | reached |" in page
    assert "| one step, ViT-B/32, 100 classes | at least 28x | 60x | **20x** | **missed** |" in page
    assert "20x come from encoding each photo once" in page
    assert "100 steps instead of 250" in page
    assert "| ViT-B-16: ours, int8, 250 steps | 250 | 16.0 s | 100x | 5.0x | 500 MB |" in page
    assert "## Memory" not in page  # nothing was measured
    assert "MobileCLIP2-S0, fp32" not in page


def test_equal_steps_are_said_to_be_equal(figures: dict[str, Any]) -> None:
    figures["adaptation"]["ViT-B-16"]["ours"]["int8, defaults"]["steps"] = 250
    assert "the same 250 steps" in document.write(figures)


def test_an_emulated_device_gets_a_section(figures: dict[str, Any]) -> None:
    side = {
        "versions": {"onnxruntime": "1.22.1", "python": "3.11.2"}, "adapted": 0.5, "zero_shot": 0.25,
        "seconds": {"adapt": 60.0, "predict": 40.0}, "peak_mb": {"adapt": 300.0, "predict": 250.0},
    }  # fmt: skip
    figures["aarch64"] = {
        "aarch64": side, "x86-64": side, "photos": 240, "agree": 230, "agree_same_prompt": 239, "failures": ["too slow"],
    }  # fmt: skip
    page = document.write(figures)
    assert "| aarch64, onnxruntime 1.22.1, Python 3.11.2 | 50.0% | 25.0% | 100 | 300 MB |" in page
    assert "Of 240 photos, 239 get the same label" in page
    assert "**Not fulfilled:** too slow." in page


@pytest.mark.parametrize("order", [("defaults", "250 steps of 32"), ("250 steps of 32", "defaults")])
def test_a_gain_of_accuracy_is_a_gain_in_whatever_order_it_is_stored(
    figures: dict[str, Any], order: tuple[str, str]
) -> None:
    top1 = {"defaults": 0.58, "250 steps of 32": 0.57}
    rows = {name: {"top1": top1[name], "deviation": 0.0, "steps": 1} for name in order}
    page = document.write(figures | {"accuracy": {"cifar10": rows}})
    assert (
        "| accuracy of the default schedule minus that of 250 steps | at least +0.0 points | +0.1 points | **+1.0 points** | aim |"
        in page
    )


def test_a_smaller_value_can_be_the_better_one() -> None:
    target = next(target for target in targets.TARGETS if target.smaller and target.least == 250)
    assert [target.verdict(value) for value in (199.0, 249.0, 251.0)] == ["aim", "reached", "**missed**"]


def test_figures_are_stored_and_the_page_is_written_from_them(
    tmp_path: Path, figures: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, page = tmp_path / "figures.json", tmp_path / "page.md"
    figures["steps"]["10"]["ratio"] = 50.123456789
    performance.store(stored, figures)
    assert json.loads(stored.read_text())["steps"]["10"]["ratio"] == 50.1235
    options = ["performance", "--from", str(stored), "--figures", str(stored), "--page", str(page)]
    monkeypatch.setattr(sys, "argv", options)
    performance.main()
    assert page.read_text() == document.write(json.loads(stored.read_text()))


def test_tables_have_as_many_cells_as_headers(figures: dict[str, Any]) -> None:
    for header, rows in (adaptation.table(figures["adaptation"]), steps.table(figures["steps"])):
        assert {len(row) for row in rows} == {len(header)}
