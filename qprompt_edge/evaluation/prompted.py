"""Image features under a prompt: the one place that knows which prompts change the image tower."""

from __future__ import annotations

import functools
from collections.abc import Callable

from qprompt_edge.data.features import Examples, encode_photos
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import ImageError
from qprompt_runtime.prompt_features import prompted_image_features
from qprompt_runtime.prompt_file import FOLDED, PromptFile
from qprompt_runtime.text import printable


def prompted_features(
    prompt: PromptFile,
    backbone: Backbone,
    photos: Examples,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Array:
    """Features of photos as a prompt sees them.

    Args:
        prompt: As `folding.folded` returns it.
        backbone: The frozen model.
        photos: M photos with their features without a prompt.
        progress: Called with photos done and M.

    Returns:
        float32 [M,E]; the plain features for a prompt in the text tower alone.

    Raises:
        ImageError: A photo can no longer be read.
    """
    if prompt.method != FOLDED:
        return photos.plain
    encode = functools.partial(prompted_image_features, prompt, backbone)
    encoded = encode_photos(backbone, photos.paths, encode=encode, progress=progress)
    for index, reason in encoded.failures.items():
        raise ImageError(reason, printable(photos.paths[index]))
    return encoded.features[:, 0]
