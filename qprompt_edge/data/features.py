"""Image features of photos: each photo is decoded and encoded once, and cached by its content.

Features are found by the hash of a photo's bytes (`feature_cache`), so renamed, moved or re-labelled photos
are not encoded again, and edited ones are.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnxruntime
import PIL
from numpy.typing import NDArray

from qprompt_edge.cache import cache_folder
from qprompt_edge.data.feature_cache import KEY_BYTES, Entry, FeatureCache, content_key, feature_file
from qprompt_edge.data.photo_quality import Quality, QualityCache
from qprompt_edge.data.splits import difference_hash
from qprompt_edge.memory import check_photo
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.decode_cost import Turns
from qprompt_runtime.errors import ImageError, OutputError
from qprompt_runtime.images import ImageTransform, augment, read_image, reading_bytes, to_pixels
from qprompt_runtime.photo_formats import formats_of
from qprompt_runtime.photo_sources import opened
from qprompt_runtime.prompt_file import ClassName
from qprompt_runtime.read_ahead import encode_ahead

_SAVE_SECONDS = 20.0
_NO_PIXELS: Array = np.zeros((0, 3, 0, 0), np.float32)


@dataclass(frozen=True)
class EncodedPhotos:
    """Features of N photos, in the order in which they were given.

    Attributes:
        features: float32 [N,V,E], rows of length 1; view 0 is the plain photo, the rest are augmented. Rows
            of photos that could not be read are zero.
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
        "image graph": backbone.image_graph.file,
        "provider": backbone.provider,
        "versions": [onnxruntime.__version__, PIL.__version__],
        "views": views,
        "seed": seed if views else 0,
    }
    return json.dumps(facts, sort_keys=True)


def user_features(
    backbone: Backbone, unkept: Callable[[OutputError], None], views: int = 0, seed: int = 1
) -> FeatureCache:
    """The user's cache of a backbone's features.

    Args:
        backbone: The frozen model.
        unkept: Takes the error where the cache cannot be written.
        views: Augmented views beside the plain one.
        seed: Of the augmentations.
    """
    identity, folder = feature_identity(backbone, views, seed), cache_folder("features")
    return FeatureCache(folder and feature_file(folder, identity), identity, unkept)


def encode_photos(
    backbone: Backbone,
    paths: Sequence[Path],
    *,
    views: int = 0,
    seed: int = 1,
    cache: FeatureCache | None = None,
    encode: Callable[[Array], Array] | None = None,
    quality: QualityCache | None = None,
    max_memory: float | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> EncodedPhotos:
    """Encode photos, several at the same time, or with one thread while others decode the next.

    Except for the features, memory does not grow with their number.

    Args:
        backbone: The frozen model.
        paths: N photos.
        views: Augmented views beside the plain one, at least 0.
        seed: Of the augmentations; with a photo's content it fixes its views.
        cache: Where features are looked up and kept; they depend on `encode` too.
        encode: From pixels [B,3,H,W] to unit features [B,E]; by default the image tower without prompts.
        quality: Is given the quality of every photo that it does not know yet; None measures nothing.
        max_memory: Most resident memory in MB of 10^6 bytes; photos that would take more are not read.
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
    decoder = _Decoder(backbone.manifest.image_transform, views, seed, max_memory, Turns())
    read = functools.partial(_read, cache, quality, decoder)
    add = functools.partial(_encoded, cache, encode)
    at_once = photos_at_once(backbone, max_memory)
    with closing(encode_ahead(backbone, read, add, paths, at_once)) as photos:
        try:
            for index, photo in enumerate(photos):
                if isinstance(photo, str):
                    failures[index] = photo
                else:
                    if photo.new:
                        cache.put(photo.key, photo.entry)
                    if quality is not None and photo.quality is not None:
                        quality.put(photo.key, photo.quality)
                    keys[index] = np.frombuffer(photo.key, np.uint8)
                    features[index], hashes[index] = photo.entry.features, photo.entry.hash
                progress(index + 1, len(paths))
                if time.monotonic() - saved > _SAVE_SECONDS:
                    _save(cache, quality)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            _save(cache, quality)
            raise
    _save(cache, quality)
    return EncodedPhotos(features, hashes, failures, keys)


def photos_at_once(backbone: Backbone, max_memory: float | None) -> int:
    """How many photos are decoded and encoded at the same time: one, where memory is limited."""
    return 1 if max_memory is not None else backbone.photos_at_once


def _save(cache: FeatureCache, quality: QualityCache | None) -> None:
    cache.save()
    if quality is not None:
        quality.save()


@dataclass(frozen=True)
class _Photo:
    """A photo that was read, to pixels float32 [1+views,3,H,W] and a difference hash.

    If it was found in the cache, it has an entry instead. `quality` is what was measured now.
    """

    key: bytes
    entry: Entry | None
    pixels: Array
    hash: int
    quality: Quality | None = None


@dataclass(frozen=True)
class _Encoded:
    """A photo with its features; `new` if the cache does not have them."""

    key: bytes
    entry: Entry
    new: bool
    quality: Quality | None


@dataclass(frozen=True)
class _Decoder:
    """From a file to a photo's views.

    Holds what `encode_photos` was given, and how large photos take turns.
    """

    transform: ImageTransform
    views: int
    seed: int
    max_memory: float | None
    turns: Turns

    def __call__(
        self, file: BinaryIO, key: bytes, entry: Entry | None, quality: QualityCache | None
    ) -> _Photo:
        """Decode an open file of this content; `quality` measures it, `entry` spares its pixels.

        Raises:
            ImageError: It cannot be read, or takes too much memory.
        """
        needed = reading_bytes(file, self.transform)
        with self.turns.of(needed):
            check_photo(self.max_memory, needed)
            # it leaves nothing behind when the next one's turn comes
            return self._decoded(file, key, entry, quality)

    def _decoded(
        self, file: BinaryIO, key: bytes, entry: Entry | None, quality: QualityCache | None
    ) -> _Photo:
        image = read_image(file, self.transform)
        measured = None if quality is None else quality.measure(image)
        if entry is not None:
            return _Photo(key, entry, _NO_PIXELS, entry.hash, measured)
        rng = np.random.default_rng([self.seed, *key])
        views = (augment(image, self.transform, rng) for _ in range(self.views))
        pixels = np.stack([to_pixels(image, self.transform), *views])
        return _Photo(key, None, pixels, difference_hash(image), measured)


def _read(cache: FeatureCache, quality: QualityCache | None, decoder: _Decoder, path: Path) -> _Photo | str:
    """Read a photo with its views, and measure it if its quality is wanted; or say why that fails."""
    try:
        with opened(path) as file:
            formats_of(file)  # what is no photo is not read further
            before = os.fstat(file.fileno())
            key = content_key(file)
            entry = cache.get(key)
            unmeasured = quality if quality is not None and quality.get(key) is None else None
            if entry is not None and unmeasured is None:
                photo = _Photo(key, entry, _NO_PIXELS, entry.hash)
            else:
                photo = decoder(file, key, entry, unmeasured)
            after = os.fstat(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    except ImageError as error:
        return error.reason
    except MemoryError:
        return "too large to decode in the memory there is; shrink it first"
    changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
    return "was written to while it was read" if changed else photo


def _encoded(cache: FeatureCache, encode: Callable[[Array], Array], photo: _Photo | str) -> _Encoded | str:
    """Features of a photo that was read; or why there are none, as it came."""
    if isinstance(photo, str):
        return photo
    known = photo.entry or cache.get(photo.key)  # a twin may have come in between
    entry = known or Entry(encode(photo.pixels), photo.hash)
    return _Encoded(photo.key, entry, known is None, photo.quality)
