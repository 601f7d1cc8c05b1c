"""Class features on disk: a prompt that was used before needs no text tower."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.small_hash import sha256


def kept_features(folder: Path, identity: str, shape: tuple[int, int], compute: Callable[[], Array]) -> Array:
    """Features of classes as they were computed before, or as they are now, which are then kept.

    Args:
        folder: Holds a file for each identity. Where it cannot be written (a read-only system), nothing is
            kept.
        identity: Everything that the features depend on; its hash names the file.
        shape: (C, E).
        compute: Gives float32 [C,E].

    Returns:
        float32 [C,E].
    """
    path = folder / f"{sha256(identity.encode()).hex()[:32]}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # a file that cannot be read is written anew
        kept = np.load(path, allow_pickle=False)
        if isinstance(kept, np.ndarray) and kept.shape == shape and kept.dtype == np.float32:
            return kept
    features = compute()
    buffer = io.BytesIO()
    np.save(buffer, features)
    with contextlib.suppress(OutputError):
        write_atomic(path, buffer.getvalue())
    return features
