"""Checkpoints as torch writes them.

They are made of literal instructions of the pickle machine, without torch and without a pickle module.
"""

import io
import math
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

END = b"."
STORAGE = {"<f2": "HalfStorage", "<f4": "FloatStorage", "<f8": "DoubleStorage", "<i8": "LongStorage"}
CALL, NEW, STATE = b"R", b"\x81", b"b"
EMPTY_CALL = b")" + CALL


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, member: str) -> bytes:
    return f"c{module}\n{member}\n".encode()


def row(*parts: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(parts) + b"t"


def entries(pairs: Mapping[str, bytes]) -> bytes:
    """Keys and values for the dictionary below them."""
    return b"(" + b"".join(text(key) + value for key, value in pairs.items()) + b"u"


def table(pairs: Mapping[str, bytes]) -> bytes:
    return b"}" + entries(pairs)


def ordered(pairs: Mapping[str, bytes]) -> bytes:
    return name("collections", "OrderedDict") + EMPTY_CALL + entries(pairs)


def storage(kind: str, key: str, count: int) -> bytes:
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), number(count))
    return row(*parts) + b"Q"


def tensor(place: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    extents, steps = (row(*map(number, numbers)) for numbers in (shape, strides))
    hooks = name("collections", "OrderedDict") + EMPTY_CALL
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + row(place, number(offset), extents, steps, b"\x89", hooks)
        + CALL
    )


def whole(array: np.ndarray, key: str) -> bytes:
    """A tensor that is its whole storage."""
    strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
    return tensor(storage(STORAGE[array.dtype.str], key, array.size), 0, array.shape, strides)


def archive(
    pickle: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    order: bytes | None = b"little",
    others: Mapping[str, bytes] | None = None,
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """The zip file: `others` are further members by their full names."""
    members = {"model/data.pkl": b"\x80\x02" + pickle + END, "model/version": b"3\n"}
    members |= {"model/byteorder": order} if order is not None else {}
    members |= {f"model/data/{key}": content for key, content in (storages or {}).items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for path, content in (members | dict(others or {})).items():
            made.writestr(path, content)
    return file.getvalue()


def checkpoint(arrays: Mapping[str, np.ndarray], *, dassl: bool = True) -> bytes:
    """A state dict as `torch.save` writes it.

    With `dassl`, it is under `state_dict`, beside a scheduler's state.
    """
    keys = {label: str(place) for place, label in enumerate(arrays)}
    state = ordered({label: whole(array, keys[label]) for label, array in arrays.items()})
    content = table({"state_dict": state, "epoch": number(50), "scheduler": SCHEDULER}) if dassl else state
    return archive(content, {keys[label]: array.tobytes() for label, array in arrays.items()})


def inert(module: str, member: str, state: bytes) -> bytes:
    return name(module, member) + b")" + NEW + state + STATE


# as torch 2 writes a ConstantWarmupScheduler's state: its successor is an object, which holds the optimizer
SCHEDULER = table(
    {
        "warmup_epoch": number(1),
        "successor": inert(
            "torch.optim.lr_scheduler",
            "CosineAnnealingLR",
            table(
                {
                    "T_max": number(50),
                    "optimizer": inert(
                        "torch.optim.sgd",
                        "SGD",
                        table(
                            {
                                "state": name("collections", "defaultdict")
                                + row(name("__builtin__", "dict"))
                                + CALL
                            }
                        ),
                    ),
                }
            ),
        ),
    }
)
MAPLE_SHAPES = {
    "ctx": "n t", "proj.weight": "v t", "proj.bias": "v",
    "compound_prompts_text.0": "n t", "compound_prompts_text.1": "n t",
    "compound_prompt_projections.0.weight": "v t", "compound_prompt_projections.0.bias": "v",
    "compound_prompt_projections.1.weight": "v t", "compound_prompt_projections.1.bias": "v",
}  # fmt: skip


def coop_arrays(shape: tuple[int, ...], dtype: str = "<f2") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "ctx": rng.normal(0, 0.02, shape).astype(dtype),
        "token_prefix": np.zeros((2, 1, shape[-1]), dtype),
    }


def maple_arrays(n: int, t: int, v: int, prefix: str = "prompt_learner.") -> dict[str, np.ndarray]:
    """Three layers; half precision where MaPLe has it, and a tensor of the CLIP that is saved with them."""
    rng, extents = np.random.default_rng(1), {"n": n, "t": t, "v": v}
    arrays = {
        f"{prefix}{label}": rng.normal(0, 0.1, [extents[e] for e in shape.split()]).astype(
            "<f4" if "compound" in label else "<f2"
        )
        for label, shape in MAPLE_SHAPES.items()
    }
    return {**arrays, "image_encoder.class_embedding": np.zeros(v, "<f2")}
