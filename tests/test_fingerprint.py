"""The fingerprint is what `docs/bundle.md` says.

It is computed here from a bundle's own files and from the model's tensors.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.export


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def documented_fingerprint(tensors: dict[str, Any], bundle: Path) -> str:
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].float().numpy()
        digest.update(canonical([name, list(values.shape)]) + b"\n" + values.astype("<f4").tobytes())
    facts = {key: manifest["text"][key] for key in ("cleaning", "context_length", "pooling")}
    facts |= {
        "image_transform": manifest["image_transform"],
        "merges": tokenizer["merges"],
        "vocabulary": sorted(tokenizer["vocab"], key=tokenizer["vocab"].get),
    }
    if "merged_tokens" in manifest["parity"]:
        facts["merged_tokens"] = int(manifest["parity"]["merged_tokens"])
    digest.update(canonical(facts))
    return digest.digest()[:16].hex()


@pytest.mark.parametrize("name", ["small-causal", "small-noncausal", "small-convolutional"])
def test_fingerprint_is_as_documented(
    name: str, small_model: Callable[..., Any], small_backbone: Callable[..., Any]
) -> None:
    backbone = small_backbone(name)
    expected = documented_fingerprint(small_model(name).model.state_dict(), backbone.folder)
    assert backbone.fingerprint.hex() == expected


def test_fingerprint_covers_how_many_tokens_are_merged(
    small_model: Callable[..., Any], small_bundle: Callable[..., Path]
) -> None:
    tensors = small_model("small-deep").model.state_dict()
    cases = [("fp32", 0), ("fp32", 2), ("fp32", 4), ("fp16", 4), ("int8", 4)]
    prints = []
    for precision, merged in cases:
        folder = small_bundle("small-deep", precision, 0, merged)
        prints.append(documented_fingerprint(tensors, folder))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["fingerprint"] == prints[-1]
    assert len(set(prints[:3])) == 3
    assert len(set(prints[2:])) == 1


def test_storage_does_not_change_the_fingerprint_and_a_fine_tune_does(
    small_configs: Path,
    small_model: Callable[..., Any],
    small_backbone: Callable[..., Any],
    tmp_path: Path,
) -> None:
    import safetensors.torch

    from qprompt_exporters.models import load_source

    made = small_model("small-causal")
    prints = {
        small_backbone("small-causal", precision).fingerprint.hex() for precision in ("fp32", "fp16", "int8")
    }
    again = load_source("small-causal", checkpoint=made.safetensors)
    assert prints == {again.fingerprint()}

    tuned = {key: tensor.clone() for key, tensor in made.model.state_dict().items()}
    tuned["ln_final.bias"][0] += 1e-6
    safetensors.torch.save_file(tuned, tmp_path / "tuned.safetensors")
    assert load_source("small-causal", checkpoint=tmp_path / "tuned.safetensors").fingerprint() not in prints
