"""Make the files of `tests/corpus/`: prompts of every format version and method, and what each must read as.

    PYTHONPATH=runtime python tests/make_corpus.py

It makes the files of the format version that the `qprompt_runtime` on the path writes. A file that is there
is never written again: what a released program wrote must be read for ever. The files of version 1 come from
the writer of the time before version 2.

What a file must read as (`v1.json`, `v2.json`) is worked out here from the arrays that the groups are made
of, without the reader.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.packing import TERNARY, levels
from qprompt_runtime.prompt_envelope import FORMAT_VERSION
from qprompt_runtime.prompt_file import Calibration, ClassName, PromptFile, PromptGroup

CORPUS = Path(__file__).parent / "corpus"
BITS = (1, 2, 4, 8, 16, 32)
CLASSES = (ClassName.from_label("red_square"), ClassName("ok", "good weld"), ClassName.from_label("猫"))
SCORES = (0.25, 0.1875, 0.125, 0.125, -0.0625)


class Case:
    """A prompt, and the weights of its groups as they went in."""

    def __init__(self, name: str, method: str, template: tuple[str, str] = ("", ".")) -> None:
        self.name, self.method, self.template = name, method, template
        self.groups: list[PromptGroup] = []
        self.values: list[NDArray[np.float32]] = []
        self.more: dict[str, Any] = {}
        self.drawn = 0

    def draw(self, shape: tuple[int, ...], low: float, high: float) -> NDArray[np.float64]:
        """Numbers from `low` to below `high`, the same for ever."""
        self.drawn += 1
        raw = hashlib.shake_256(f"{self.name} {self.drawn}".encode()).digest(2 * int(np.prod(shape)))
        return low + (high - low) * np.frombuffer(raw, "<u2").reshape(shape) / 2**16

    def add(
        self,
        role: str,
        shape: tuple[int, ...],
        bits: float,
        *,
        scaled: bool = False,
        rows: tuple[int, ...] = (),
    ) -> Case:
        """Add a group of random weights."""
        more = {"rows": rows} if rows else {}
        if bits >= 16:
            weights = self.draw(shape, -0.25, 0.25).astype(f"<f{int(bits) // 8}")
            self.groups.append(PromptGroup.plain(role, weights, **more))
            self.values.append(weights.astype(np.float32))
            return self
        codebook = np.sort(self.draw((levels(bits),), -0.25, 0.25)).astype(np.float16)
        indices = self.draw(shape, 0, levels(bits)).astype(np.uint8)
        values = codebook[indices].astype(np.float32)
        if scaled:
            more["scales"] = self.draw(shape[:1], 0.1, 2).astype(np.float16)
            values *= more["scales"].astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
        self.groups.append(PromptGroup.quantized(role, codebook, indices, bits, **more))
        self.values.append(values)
        return self

    def holding(self, **more: Any) -> Case:
        """Give the prompt other fields."""
        self.more |= more
        return self

    def prompt(self) -> PromptFile:
        """The prompt."""
        fixed = {
            "method": self.method,
            "groups": tuple(self.groups),
            "classes": CLASSES,
            "template": self.template,
            "backbone_name": "small",
            "fingerprint": bytes(range(16)),
            "calibration": Calibration(100.0),
        }
        return PromptFile(**fixed | self.more)

    def expected(self, content: bytes) -> dict[str, Any]:
        """What the file must read as."""
        prompt = self.prompt()
        said = {
            "format_version": FORMAT_VERSION,
            "sha256": hashlib.sha256(content).hexdigest(),
            "method": self.method,
            "classes": [[name.label, name.text] for name in prompt.classes],
            "template": list(self.template),
            "backbone": [prompt.backbone_name, prompt.fingerprint.hex()],
            "calibration": dataclasses.asdict(prompt.calibration),
            "metadata": dict(prompt.metadata),
            "groups": [
                {
                    "role": group.role,
                    "shape": list(values.shape),
                    "bits": group.bits,
                    "first_values": [float(value) for value in values.ravel()[:3]],
                    "values_sha256": hashlib.sha256(values.astype("<f4").tobytes()).hexdigest(),
                }
                for group, values in zip(self.groups, self.values, strict=True)
            ],
        }
        if FORMAT_VERSION > 1:
            for group, entry in zip(self.groups, said["groups"], strict=True):
                entry |= {key: list(getattr(group, key)) for key in ("scales", "rows") if getattr(group, key)}
            extras = {str(key): value.hex() for key, value in prompt.extras.items()}
            said |= {key: it for key, it in (("photos", list(prompt.photos)), ("extras", extras)) if it}
        return said


def cases() -> list[Case]:
    """The prompts, as far as the writer's format version holds them."""
    made = []
    for bits in BITS:
        made.append(Case(f"qcoop-{bits}", "qcoop").add("text-context", (2, 8), bits))
        made.append(Case(f"qcoop-per-class-{bits}", "qcoop").add("text-context", (3, 2, 8), bits))
    for bits in (1, 4, 32):
        text = (2, 2, 8), bits
        folded = Case(f"qmaple-{bits}", "qmaple").add("text-context", *text)
        made.append(folded.add("image-prompts", (2, 2, 5), bits))
        coupled = Case(f"qmaple-coupled-{bits}", "qmaple-coupled").add("text-context", *text)
        made.append(coupled.add("projections", (2, 5, 9), bits))
    notes = {"made by": "make_corpus", "empty": ""}
    noted = Case("qcoop-notes", "qcoop", ("a drawing of", "")).add("text-context", (1, 3), 3)
    made.append(noted.holding(metadata=notes, calibration=Calibration(12.345), backbone_name="ViT-B-16 ✓"))
    return made + (residual_cases() if FORMAT_VERSION > 1 else [])


def residuals(name: str, bits: float, *, scaled: bool = False, rows: tuple[int, ...] = ()) -> Case:
    """A prompt of class residuals."""
    count = len(rows) or len(CLASSES)
    case = Case(name, "qtaskres", ("a photo of a", "."))
    case.add("class-residuals", (count, 8), bits, scaled=scaled, rows=rows)
    return case.add("class-offsets", (count,), 16, rows=rows)


def residual_cases() -> list[Case]:
    """What came with version 2."""
    made = [residuals(f"qtaskres-{bits}", bits) for bits in BITS]
    made += [residuals(f"qtaskres-scales-{bits}", bits, scaled=True) for bits in (1, 2, 8)]
    made.append(residuals("qtaskres-scales-three", TERNARY, scaled=True))
    made.append(Case("qcoop-three", "qcoop").add("text-context", (2, 8), TERNARY))
    made.append(residuals("qtaskres-rows", 1, rows=(0, 2)))
    made.append(residuals("qtaskres-rows-scales", 1, scaled=True, rows=(1,)))
    made.append(residuals("qtaskres-scores", 1).holding(calibration=Calibration(50.0, SCORES)))
    made.append(residuals("qtaskres-accept", 1).holding(calibration=Calibration(50.0, SCORES, 0.95)))
    made.append(residuals("qtaskres-photos", 1).holding(photos=(16, 0, 2**31)))
    full = residuals("qtaskres-everything", 2, scaled=True, rows=(0, 1))
    full.holding(calibration=Calibration(50.0, SCORES, 0.875), photos=(16, 3, 0), metadata={"a": "b"})
    made.append(full.holding(extras={17: b"", 22: bytes(range(40))}))
    shared = Case("qcoop-later-key", "qcoop").add("text-context", (2, 8), 1)
    made.append(shared.holding(extras={20: b"from a later program"}, photos=(1, 2, 3)))
    return made


def main() -> None:
    """Write the files that are not there, and what they must read as."""
    CORPUS.mkdir(exist_ok=True)
    index = CORPUS / f"v{FORMAT_VERSION}.json"
    known = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
    for case in cases():
        path = CORPUS / f"v{FORMAT_VERSION}-{case.name}.qpt"
        if not path.exists():
            path.write_bytes(case.prompt().to_bytes())
            known[path.name] = case.expected(path.read_bytes())
    lines = (f"{json.dumps(name)}: {json.dumps(said, ensure_ascii=False)}" for name, said in known.items())
    index.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
