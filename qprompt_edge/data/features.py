"""Photos to image features, each photo once: decoded, encoded, and kept by what is in the file.

Features are found by the hash of a photo's bytes (`feature_cache`), so renamed, moved or re-labelled photos are not encoded
again, and edited ones are.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import PIL
from numpy.typing import NDArray

from qprompt_edge.data.feature_cache import KEY_BYTES, Entry, FeatureCache
from qprompt_edge.data.splits import difference_hash
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import ImageTransform, augment, read_image, to_pixels
from qprompt_runtime.prompt_file import ClassName
from qprompt_runtime.read_ahead import read_ahead

_SAVE_SECONDS = 20.0
_NO_PIXELS: Array = np.zeros((0, 3, 0, 0), np.float32)


@dataclass(frozen=True)
class EncodedPhotos:
    """Features of N photos, in the order in which they were given.

    Attributes:
        features: float32 [N,V,E], rows of length 1; view 0 is the plain photo, the rest are augmented. Rows of
            photos that could not be read are zero.
        hashes: uint64 [N]; difference hashes, for finding near-identical photos.
        failures: Position to reason, without the path, for photos that could not be read.
        keys: uint8 [N,16]; hashes of the photos' content, zero for those that could not be read.
    """

    features: Array
    hashes: NDArray[np.uint64]
    failures: dict[int, str]
    keys: NDArray[np.uint8]


@dataclass(frozen=True)
class Examples:
    """Labelled photos with their features.

    Attributes:
        classes: The C classes.
        paths: N photos.
        labels: int64 [N], positions in `classes`.
        features: float32 [N,V,E], as in `EncodedPhotos`.
    """

    classes: tuple[ClassName, ...]
    paths: Sequence[Path]
    labels: NDArray[np.int64]
    features: Array

    @property
    def plain(self) -> Array:
        """float32 [N,E]; features of the photos as they are."""
        return self.features[:, 0]

    def select(self, positions: NDArray[np.int64]) -> Examples:
        """The photos at these positions, in this order; classes stay as they are."""
        paths = tuple(self.paths[i] for i in positions)
        return Examples(self.classes, paths, self.labels[positions], self.features[positions])


def feature_identity(backbone: Backbone, views: int, seed: int) -> str:
    """What features depend on besides the photo."""
    manifest = backbone.manifest
    facts = {
        "fingerprint": manifest.fingerprint,
        "files": {name: record.sha256 for name, record in manifest.files.items()},
        "pixels": repr(manifest.image_transform),
        "provider": backbone.provider,
        "versions": [onnxruntime.__version__, PIL.__version__],
        "views": views,
        "seed": seed if views else 0,
    }
    return json.dumps(facts, sort_keys=True)


def encode_photos(
    backbone: Backbone,
    paths: Sequence[Path],
    *,
    views: int = 0,
    seed: int = 1,
    cache: FeatureCache | None = None,
    encode: Callable[[Array], Array] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> EncodedPhotos:
    """Encode photos one by one, while the next are decoded; beyond the features memory does not grow with their number.

    Args:
        backbone: The frozen model.
        paths: N photos.
        views: Augmented views beside the plain one, at least 0.
        seed: Of the augmentations; with a photo's content it fixes its views.
        cache: Where features are looked up and kept; they depend on `encode` too.
        encode: From pixels [B,3,H,W] to unit features [B,E]; by default the image tower without prompts.
        progress: Called with photos done and N.

    Returns:
        Features of all photos; those that cannot be read are listed, not raised.
    """
    cache = cache or FeatureCache(None, feature_identity(backbone, views, seed))
    encode = encode or backbone.encode_images
    features = np.zeros((len(paths), 1 + views, backbone.manifest.embed_dim), np.float32)
    hashes = np.zeros(len(paths), np.uint64)
    failures: dict[int, str] = {}
    keys = np.zeros((len(paths), KEY_BYTES), np.uint8)
    saved = time.monotonic()
    read = functools.partial(_read, cache, backbone.manifest.image_transform, views, seed)
    with closing(read_ahead(read, paths)) as photos:
        try:
            for index, photo in enumerate(photos):
                if isinstance(photo, str):
                    failures[index] = photo
                else:
                    entry = photo.entry or cache.get(photo.key)  # a twin may have come in between
                    if entry is None:
                        entry = Entry(encode(photo.pixels), photo.hash)
                        cache.put(photo.key, entry)
                    keys[index] = np.frombuffer(photo.key, np.uint8)
                    features[index], hashes[index] = entry.features, entry.hash
                progress(index + 1, len(paths))
                if time.monotonic() - saved > _SAVE_SECONDS:
                    cache.save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            cache.save()
            raise
    cache.save()
    return EncodedPhotos(features, hashes, failures, keys)


@dataclass(frozen=True)
class _Photo:
    """A photo that was read: found in the cache, or decoded to pixels float32 [1+views,3,H,W] and a difference hash."""

    key: bytes
    entry: Entry | None
    pixels: Array
    hash: int


def _read(cache: FeatureCache, transform: ImageTransform, views: int, seed: int, path: Path) -> _Photo | str:
    """Read a photo with its views, or say why that fails."""
    try:
        content = path.read_bytes()
        key = hashlib.sha256(content).digest()[:KEY_BYTES]
        entry = cache.get(key)
        if entry is not None:
            return _Photo(key, entry, _NO_PIXELS, entry.hash)
        image = read_image(content, transform)
    except OSError as error:
        return error.strerror or str(error)
    except ImageError as error:
        return error.reason
    rng = np.random.default_rng([seed, *key])
    pixels = [to_pixels(image, transform), *(augment(image, transform, rng) for _ in range(views))]
    return _Photo(key, None, np.stack(pixels), difference_hash(image))
