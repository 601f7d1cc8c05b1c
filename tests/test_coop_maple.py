"""What CoOp and MaPLe leave in a checkpoint: literal ones, faulty ones, and those of torch itself."""

from typing import Any

import numpy as np
import pytest
from torch_files import checkpoint, coop_arrays, maple_arrays

from qprompt_edge.convert.coop_maple import is_maple, read_coop, read_maple
from qprompt_edge.convert.torch_checkpoint import State, read_checkpoint
from qprompt_edge.tuning.qmaple import PROJECTIONS, TEXT, fold
from qprompt_runtime.errors import CheckpointError

PREFIXES = [
    "",
    "module.",
    "_orig_mod.",
    *(
        f"{wrapper}prompt_learner."
        for wrapper in ("", "module.", "_orig_mod.", "model.", "module._orig_mod.", "net.")
    ),
    "model.module.prompt_learner._orig_mod.",
]


def in_memory(arrays: dict) -> State:
    return State(frozenset(arrays), lambda key: arrays[key].astype(np.float32))


@pytest.mark.parametrize("shape", [(4, 8), (3, 4, 8)])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_coop(shape, prefix):
    arrays = {f"{prefix}{key}": array for key, array in coop_arrays(shape).items()}
    assert not is_maple(in_memory(arrays))
    np.testing.assert_array_equal(read_coop(in_memory(arrays)), arrays[f"{prefix}ctx"].astype(np.float32))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_maple_folds_to_the_prompts_that_its_layers_make(prefix):
    arrays = maple_arrays(2, 6, 5, prefix)
    assert is_maple(in_memory(arrays))
    maple = read_maple(in_memory(arrays))
    assert {name: array.shape for name, array in maple.items()} == {TEXT: (3, 2, 6), PROJECTIONS: (3, 5, 7)}
    places = [
        ("ctx", "proj"),
        *((f"compound_prompts_text.{k}", f"compound_prompt_projections.{k}") for k in (0, 1)),
    ]
    for layer, (prompt, projection) in enumerate(places):
        weight, bias = (arrays[f"{prefix}{projection}.{part}"].astype(float) for part in ("weight", "bias"))
        expected = [weight @ vector + bias for vector in arrays[f"{prefix}{prompt}"].astype(float)]
        np.testing.assert_array_equal(maple[TEXT][layer], arrays[f"{prefix}{prompt}"].astype(np.float32))
        np.testing.assert_allclose(fold(*maple.values())[layer], expected, rtol=1e-5, atol=1e-6)
    assert fold(*maple.values()).dtype == np.float32


def test_shallow_maple():
    arrays = {key: array for key, array in maple_arrays(2, 6, 5).items() if "compound" not in key}
    assert fold(*read_maple(in_memory(arrays)).values()).shape == (1, 2, 5)


P = "prompt_learner."
FAULTS = {
    "another model": (
        {f"{P}ctx": None, f"{P}proj.weight": None},
        r"no context vectors of CoOp or MaPLe \(`ctx`\)",
    ),
    "two models": (
        {f"ema_model.{P}ctx": (2, 6)},
        r"of 2 models \(ema_model.prompt_learner.ctx, prompt_learner.ctx\)",
    ),
    "a wrapped CoCoOp": ({f"{P}ctx": None, "module.ctx": (2, 6), "module.meta_net.x": (2, 6)}, "each photo"),
    "another part's context": ({f"{P}ctx": None, "decoder.ctx": (2, 6)}, "no context vectors"),
    "CoCoOp": ({f"{P}meta_net.linear1.weight": (2, 6)}, "depends on each photo"),
    "IVLP": ({"image_encoder.VPT": (4, 5)}, "prompts that are not coupled"),
    "no bias": ({f"{P}proj.bias": None}, "no tensor prompt_learner.proj.bias"),
    "no projection": ({f"{P}compound_prompt_projections.1.weight": None}, "no tensor .*projections.1.weight"),
    "a layer left out": ({f"{P}compound_prompts_text.0": None}, r"no tensor .*text\.0"),
    "empty context": ({f"{P}ctx": (0, 6)}, r"is of shape \(0, 6\), expected one with weights"),
    "flat context": ({f"{P}ctx": (6,)}, r"is of shape \(6,\), expected 2 dimensions"),
    "contexts of classes": ({f"{P}ctx": (3, 2, 6)}, r"is of shape \(3, 2, 6\), expected 2"),
    "other width": ({f"{P}compound_prompts_text.1": (2, 7)}, "of layer 2 have shapes .* do not fit"),
    "other length": ({f"{P}compound_prompts_text.0": (3, 6)}, "of layer 1 have shapes"),
    "projection turned": ({f"{P}proj.weight": (6, 5)}, "of layer 0 have shapes"),
    "other image width": ({f"{P}compound_prompt_projections.0.bias": (4,)}, "of layer 1 have shapes"),
    "too many layers": (
        {f"{P}compound_prompts_text.{k}": (2, 6) for k in range(64)},
        "prompts for 65 layers, expected up to 64",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault):
    changes, message = FAULTS[fault]
    arrays = maple_arrays(2, 6, 5)
    for key, shape in changes.items():
        arrays.pop(key, None)
        if shape is not None:
            arrays[key] = np.zeros(shape, "<f4")
    with pytest.raises(CheckpointError, match=message):
        read_maple(in_memory(arrays))


# ---------------------------------------------------------------------- against torch itself


def learner(torch: Any, cosine: Any) -> tuple[Any, Any]:
    """A module with MaPLe's names in its precisions, trained for a step, and Dassl's scheduler for it."""
    module = torch.nn.Module()
    module.prompt_learner = prompts = torch.nn.Module()
    prompts.proj = torch.nn.Linear(6, 5).half()
    prompts.ctx = torch.nn.Parameter(torch.randn(2, 6).half())
    prompts.compound_prompts_text = torch.nn.ParameterList(
        [torch.nn.Parameter(torch.randn(2, 6)) for _ in range(2)]
    )
    prompts.compound_prompt_projections = torch.nn.ModuleList([torch.nn.Linear(6, 5) for _ in range(2)])
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    successor = cosine(optimizer, 5)
    sum(parameter.float().sum() for parameter in module.parameters()).backward()
    optimizer.step()
    successor.step()
    return module, {"optimizer": optimizer.state_dict(), "scheduler": {"successor": successor}}


@pytest.mark.export
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_torch_saves(tmp_path, protocol):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module, training = learner(torch, torch.optim.lr_scheduler.CosineAnnealingLR)
    state = module.state_dict()
    state["turned"], state["brain"] = torch.randn(3, 4).t()[1:], torch.randn(3).bfloat16()
    path = tmp_path / "model.pth.tar-5"
    content = {"state_dict": state, "epoch": 5, "val_result": 80.5, **training}
    torch.save(content, path, pickle_protocol=protocol)
    read = read_checkpoint(path)
    assert read.names == set(state)
    for key in read.names:
        np.testing.assert_array_equal(read.load(key), state[key].detach().float().numpy())
    prompts = module.prompt_learner.float()
    layers = [prompts.proj, *prompts.compound_prompt_projections]
    texts = [prompts.ctx, *prompts.compound_prompts_text]
    with torch.no_grad():
        expected = torch.stack([layer(text) for layer, text in zip(layers, texts, strict=True)]).numpy()
    np.testing.assert_allclose(fold(*read_maple(read).values()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.export
def test_functions_in_what_torch_saves(tmp_path):
    torch = pytest.importorskip("torch")
    module, training = learner(torch, torch.optim.lr_scheduler.CosineAnnealingLR)
    path = tmp_path / "model.pth.tar-5"
    for extra, word in (
        (training["scheduler"]["successor"].step, "getattr"),
        (torch.load, "torch.serialization.load"),
    ):
        torch.save({"state_dict": module.state_dict(), "extra": extra}, path)
        with pytest.raises(CheckpointError, match=f"names '.*{word}'.*it was not run"):
            read_checkpoint(path)


@pytest.mark.export
def test_literal_checkpoints_are_what_torch_reads(tmp_path):
    torch = pytest.importorskip("torch")
    path, arrays = tmp_path / "model.pth.tar-50", maple_arrays(2, 6, 5)
    path.write_bytes(checkpoint(arrays, dassl=False))
    for key, tensor in torch.load(path, weights_only=True).items():
        np.testing.assert_array_equal(tensor.numpy(), arrays[key])
