"""The features of the common nouns that compete with a prompt's classes, in a file of the bundle.

The device needs them for "none of these" (`qprompt_runtime.none_of_these`). They depend on the backbone
alone, and a text tower that is not causal takes as long for them as for a thousand classes.
"""

from __future__ import annotations

import io

import numpy as np

from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import file_record
from qprompt_runtime.files import write_atomic
from qprompt_runtime.manifest import FileRecord
from qprompt_runtime.none_of_these import encode_nouns, noun_file


def write_nouns(backbone: Backbone) -> dict[str, FileRecord]:
    """Encode the nouns with an exported text tower, and write them beside it.

    Args:
        backbone: The bundle, opened.

    Returns:
        The file's name and record, for the manifest.
    """
    path = backbone.folder / noun_file()
    buffer = io.BytesIO()
    np.save(buffer, encode_nouns(backbone), allow_pickle=False)
    write_atomic(path, buffer.getvalue())
    return {path.name: file_record(path)}
