"""Prompts from other files: checkpoints of CoOp and MaPLe, linear heads, prompt files, safetensors.

What a file is, its first bytes say, not its name. A checkpoint holds full-precision weights and is quantized
after training (PTQ). That costs accuracy against quantizing while training: H 74.73 against 76.31 at 1 bit
(QPrompt, ECCV 2024, ablations). What a checkpoint does not hold, the caller adds: the backbone, and the names
of the classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprompt_edge.convert.coop_maple import is_maple, read_coop, read_maple
from qprompt_edge.convert.linear_head import HEAD_BITS, import_head, is_head
from qprompt_edge.convert.regroup import OFFSETS, bits_for, changed, regrouped
from qprompt_edge.convert.safetensors import read_safetensors
from qprompt_edge.convert.torch_checkpoint import ZIP_START, State, read_checkpoint
from qprompt_edge.tuning import qcoop, qmaple
from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import find_bundle, read_manifest
from qprompt_runtime.cose_sign1 import MARK
from qprompt_runtime.errors import BackboneMismatchError, BundleError, CheckpointError, PromptFileError
from qprompt_runtime.foreign import START_BYTES, foreign
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import (
    CONTEXT,
    FOLDED,
    RESIDUAL,
    Calibration,
    ClassName,
    PromptFile,
    PromptGroup,
    read_prompt_file,
)
from qprompt_runtime.text import printable
from qprompt_runtime.tokenizer import Tokenizer, check_names, class_tokens

COOP_BITS, MAPLE_BITS = 1, 4
"""What the paper quantizes each method to."""
_PROMPT_STARTS = (b"\xd9\xd9\xf7", MARK)  # as it is, and signed


@dataclass(frozen=True)
class Additions:
    """What a conversion is told beside its source.

    Attributes:
        backbone: Name or folder of the bundle; needed for a checkpoint or a head, compared with a prompt's
            own.
        classes: Label to prompt text (None: the label, `_` as spaces) in the order of the classes; needed for
            a checkpoint or a head, instead of a prompt's own.
        bits: Bits a weight, 1 to 8, 1.6 or 32; None keeps a prompt's own, and takes 1 for CoOp, 4 for
            MaPLe, 8 for a linear head.
        policy: Which signed prompts may be read, beside what the device's policy says.
    """

    backbone: str | Path | None = None
    classes: Mapping[str, str | None] | None = None
    bits: float | None = None
    policy: Policy | None = None


def convert(source: Path, additions: Additions) -> PromptFile:
    """Read a prompt from whatever file holds one.

    Args:
        source: A prompt file, a checkpoint of CoOp or MaPLe (torch's, or its tensors as safetensors), a
            linear head's tensors, or what `to_safetensors` wrote. Nobody needs to vouch for it.
        additions: What the file does not say.

    Raises:
        QPromptError: The file cannot be read, or the additions do not fit it.
    """
    kind = kind_of(source)
    if kind == "prompt":
        return _changed(read_prompt_file(source, additions.policy), additions)
    try:
        found = read_safetensors(source, additions.bits) if kind == "safetensors" else read_checkpoint(source)
        return _changed(found, additions) if isinstance(found, PromptFile) else import_state(found, additions)
    except (CheckpointError, PromptFileError) as error:
        raise type(error)(f"{printable(source)}: {error}") from error


def kind_of(path: Path) -> str:
    """What a file is by its first bytes: `prompt`, `checkpoint` or `safetensors`.

    Raises:
        CheckpointError: It cannot be read, or is none of them.
    """
    shown = printable(path)
    try:
        if path.is_dir():
            raise CheckpointError(f"{shown}: is a folder; give the file in it, such as model.pth.tar-50")
        with path.open("rb") as file:
            start = file.read(START_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{shown}: cannot be read: {error.strerror or error}") from error
    if start.startswith(_PROMPT_STARTS):
        return "prompt"
    if start.startswith(ZIP_START):
        return "checkpoint"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size:
        return "safetensors"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise CheckpointError(
            f"{shown}: is a plain pickle file, as torch before 1.6 wrote it; it was not run. If you trust "
            "it, write it anew on a workstation: torch.save(torch.load(FILE)['state_dict'], NEW)"
        )
    kind = foreign(start)
    what = f"it is {kind}" if kind else f"it begins with {start[:4].hex()}"
    raise CheckpointError(
        f"{shown}: is no prompt file, no checkpoint of torch and no safetensors file: {what}"
    )


def import_state(state: State, additions: Additions) -> PromptFile:
    """Quantize the prompt of a CoOp or MaPLe checkpoint, or a linear head.

    Raises:
        CheckpointError: The state holds none of them, or what must be added is missing or does not fit.
        BundleError: There is no such backbone.
        TextError: A class name does not fit the text tower, or two that share a context are the same words.
    """
    head = is_head(state)
    maple = not head and is_maple(state)
    if additions.backbone is None:
        raise CheckpointError(
            "a checkpoint does not name its backbone: give the CLIP that it was tuned on as --backbone"
        )
    if additions.classes is None:
        raise CheckpointError(
            "a checkpoint does not name its classes: give --classes a,b,c or --class-names FILE"
        )
    if head:
        return import_head(
            state,
            _class_names(additions.classes),
            Backbone.load(additions.backbone),
            additions.bits or HEAD_BITS,
        )
    folder = find_bundle(additions.backbone)
    manifest = read_manifest(folder)
    # CoOp and MaPLe turn only the underscores of a name into spaces
    names = tuple(
        ClassName(label, text or label.replace("_", " ")) for label, text in additions.classes.items()
    )
    arrays, template = _maple_arrays(state) if maple else ([(qcoop.ROLE, read_coop(state))], qcoop.TEMPLATE)
    context = arrays[0][1]
    _check_fit(context, manifest, None if maple else names)
    tokenizer = Tokenizer(folder / "tokenizer.json")
    pairs = [(name.label, name.text) for name in names]
    check_names(pairs, tokenizer.encode, shared=maple or context.ndim == 2)
    class_tokens(
        tokenizer,
        manifest.text,
        [name.text for name in names],
        template,
        context.shape[-2],
    )
    bits = additions.bits or (MAPLE_BITS if maple else COOP_BITS)
    return PromptFile(
        method=FOLDED if maple else CONTEXT,
        groups=tuple(make_group(role, values, bits) for role, values in arrays),
        classes=names,
        template=template,
        backbone_name=manifest.name,
        fingerprint=bytes.fromhex(manifest.fingerprint),
        calibration=Calibration(manifest.logit_scale),
    )


def _maple_arrays(state: State) -> tuple[list[tuple[str, Array]], tuple[str, str]]:
    """Roles and weights as `docs/prompt-file.md` orders them, and the template.

    MaPLe learns the first n words of "a photo of a"; those that are left stay words of the sentence.
    """
    shipped = qmaple.reparameterization(FOLDED).forward(read_maple(state))
    count = shipped[qmaple.TEXT].shape[1]
    return list(shipped.items()), (" ".join(qcoop.CONTEXT_INIT.split()[count:]), qcoop.TEMPLATE[1])


def _check_fit(context: Array, manifest: Manifest, names: tuple[ClassName, ...] | None) -> None:
    """Refuse contexts of another width, or, given the classes, for another number of them."""
    width = manifest.text.width
    if context.shape[-1] != width:
        raise CheckpointError(
            f"its context vectors have {context.shape[-1]} numbers, those of the backbone {manifest.name!r} "
            f"have {width}; it was tuned on another CLIP: give that one as --backbone"
        )
    if names is not None and context.ndim == 3 and len(context) != len(names):
        raise CheckpointError(
            f"it has contexts for {len(context)} classes, but {len(names)} were named; name the classes that "
            "it was trained on, in that order"
        )


def _changed(prompt: PromptFile, additions: Additions) -> PromptFile:
    """A prompt at other bits or for other classes, as far as that was asked for.

    What was measured with the old ones is left out.
    """
    if additions.backbone is not None:
        manifest = read_manifest(find_bundle(additions.backbone))
        if manifest.fingerprint != prompt.fingerprint.hex():
            raise BackboneMismatchError(
                f"the prompt was tuned for backbone {prompt.backbone_name!r} "
                f"({prompt.fingerprint.hex()[:8]}), but this is {manifest.name!r} "
                f"({manifest.fingerprint[:8]}); leave --backbone out, or give the right one"
            )
    changes: dict[str, Any] = {}
    names = _named(prompt, additions)
    if names != prompt.classes:
        changes |= {"classes": names, "photos": ()}
    tuned = [group for group in prompt.groups if group.role != OFFSETS]
    if additions.bits is not None and any(group.bits != additions.bits for group in tuned):
        changes["groups"] = tuple(_at(group, additions.bits) for group in prompt.groups)
    return changed(prompt, **changes) if changes else prompt


def _class_names(classes: Mapping[str, str | None]) -> tuple[ClassName, ...]:
    """Labels and texts; without a text, the label's words."""
    return tuple(
        ClassName.from_label(label) if text is None else ClassName(label, text)
        for label, text in classes.items()
    )


def _named(prompt: PromptFile, additions: Additions) -> tuple[ClassName, ...]:
    """The classes that were asked for."""
    if additions.classes is None:
        return prompt.classes
    names = _class_names(additions.classes)
    if names != prompt.classes:
        if prompt.method == RESIDUAL:
            raise CheckpointError("a prompt with residuals of its classes works with its own classes only")
        if prompt.method == CONTEXT and len(prompt.groups[0].shape) == 3:
            raise CheckpointError("a prompt with a context for each class works with its own classes only")
        with contextlib.suppress(BundleError):  # without its backbone `predict` will say the same
            folder = find_bundle(additions.backbone or prompt.backbone_name)
            pairs = [(name.label, name.text) for name in names]
            check_names(pairs, Tokenizer(folder / "tokenizer.json").encode, shared=True)
    return names


def _at(group: PromptGroup, bits: float) -> PromptGroup:
    """A group at other bits."""
    width = bits_for(group.role, group.bits, bits)
    if width == group.bits:
        return group
    return regrouped(group.role, group.values(), width, group.scales, group.rows)
