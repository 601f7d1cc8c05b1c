"""Features of many photos, each with the error that it has instead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.decode import Source
from qprompt_runtime.decode_cost import Turns
from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import load_pixels, reading_bytes
from qprompt_runtime.read_ahead import encode_ahead

Photo = TypeVar("Photo", bound=Source)


def features_of_many(
    backbone: Backbone,
    encode: Callable[[Array], Array],
    photos: Iterable[Photo],
    check: Callable[[int], None] | None,
) -> Generator[tuple[Photo, Array | ImageError], None, None]:
    """Decode and encode photos, several at the same time, in memory that does not grow with their number.

    Args:
        backbone: The frozen model.
        encode: From pixels [1,3,H,W] to unit features [1,E], with the backbone's image tower.
        photos: Any number; they are taken as they are needed.
        check: As for `PromptClassifier.predict_many`.

    Yields:
        Each photo, in order, with its features [1,E] or with the error that says why there are none.
    """
    transform, turns = backbone.manifest.image_transform, Turns()

    def read(photo: Photo) -> tuple[Photo, Array | ImageError]:
        try:
            needed = reading_bytes(photo, transform)
            with turns.of(needed):
                if check is not None:
                    check(needed)
                return photo, load_pixels(photo, transform)
        except ImageError as error:
            return photo, error

    def encoded(found: tuple[Photo, Array | ImageError]) -> tuple[Photo, Array | ImageError]:
        photo, pixels = found
        return photo, pixels if isinstance(pixels, ImageError) else encode(pixels[None])

    return encode_ahead(backbone, read, encoded, photos, backbone.photos_at_once)
