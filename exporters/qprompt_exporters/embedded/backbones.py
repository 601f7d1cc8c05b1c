"""The embedded backbones by name: how each is built, and where its weights and figures lie."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip import CLIP
from safetensors.torch import load_file, save_file

from qprompt_exporters.embedded.small.model import build_small
from qprompt_exporters.embedded.tiny.model import build_tiny


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that this project trained.

    Attributes:
        name: its name; its weights and figures lie in the folder of that name.
        build: makes the model with random weights, its preprocessing stated where open_clip keeps it.
        licence: of the weights.
    """

    name: str
    build: Callable[[], CLIP]
    licence: str

    @property
    def weights(self) -> Path:
        """The trained weights, a safetensors file."""
        return Path(__file__).parent / self.name / "weights.safetensors"

    @property
    def results(self) -> Path:
        """What `evaluate` measured on them, a JSON file."""
        return Path(__file__).parent / self.name / "results.json"

    def load(self, path: Path | str | None = None) -> CLIP:
        """Loads the trained model, or a file that `save_weights` wrote, in float32 and evaluation mode."""
        model = self.build()
        state = load_file(path or self.weights)
        model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in state.items()})
        return model.eval()

    def zero_shot_results(self) -> dict[str, float]:
        """Gives what `evaluate` measured on the trained model: name of a set to zero-shot top-1."""
        figures = json.loads(self.results.read_text("utf-8"))
        return {name: entry["zero_shot"] for name, entry in figures.items() if entry["zero_shot"] is not None}


EMBEDDED = {
    model.name: model
    for model in (
        EmbeddedModel("small", build_small, "Apache-2.0"),
        EmbeddedModel("tiny", build_tiny, "MIT"),
    )
}


def save_weights(state: dict[str, torch.Tensor], path: Path | str) -> None:
    """Writes a state dict with its numbers in float16, through a temporary file and a rename."""
    path = Path(path)
    partial = path.with_suffix(".part")
    halves = {n: (t.half() if t.is_floating_point() else t).contiguous().cpu() for n, t in state.items()}
    save_file(halves, partial)
    partial.replace(path)
