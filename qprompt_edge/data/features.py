"""Photos to image features, each photo once: decoded, encoded, and kept by what is in the file.

A cache file holds the features of one backbone and one set of augmentation options; its entries are found by
the hash of a photo's bytes, so renamed, moved or re-labelled photos are not encoded again, and edited ones are.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import time
import zipfile
from collections import deque
from collections.abc import Callable, Generator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import numpy as np
from numpy.typing import NDArray

from qprompt_edge.data.splits import difference_hash
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.cores import startable_threads
from qprompt_runtime.errors import ImageError, OutputError
from qprompt_runtime.files import is_file, write_atomic
from qprompt_runtime.images import ImageTransform, augment, read_image, to_pixels
from qprompt_runtime.prompt_file import ClassName

_SAVE_SECONDS = 20.0
_KEY_BYTES = 16
_READERS = 2  # threads that decode beside the image tower; each holds one photo, so more would cost memory
_NO_PIXELS: Array = np.zeros((0, 3, 0, 0), np.float32)


@dataclass(frozen=True)
class EncodedPhotos:
    """Features of N photos, in the order in which they were given.

    Attributes:
        features: float32 [N,V,E], rows of length 1; view 0 is the plain photo, the rest are augmented. Rows of
            photos that could not be read are zero.
        hashes: uint64 [N]; difference hashes, for finding near-identical photos.
        failures: Position to reason, without the path, for photos that could not be read.
    """

    features: Array
    hashes: NDArray[np.uint64]
    failures: dict[int, str]


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


@dataclass(frozen=True)
class _Entry:
    features: Array
    hash: int


class FeatureCache:
    """Features on disk, by content.

    Args:
        path: The cache file; None keeps nothing.
        identity: What the features depend on besides the photo; a file of another identity counts as empty.
        unkept: Takes the error where the file cannot be written; None raises it.
    """

    def __init__(
        self, path: Path | None, identity: str, unkept: Callable[[OutputError], None] | None = None
    ) -> None:
        self.path, self.identity, self.unkept = path, identity, unkept
        self._entries: dict[bytes, _Entry] = {}
        self._changed = False
        if path is not None and is_file(path):
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as stored:
                if str(stored["identity"]) != self.identity:
                    return
                keys, features, hashes = stored["keys"], stored["features"], stored["hashes"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return  # a cache that cannot be read is rebuilt
        self._entries = {
            key.tobytes(): _Entry(row, int(hashed))
            for key, row, hashed in zip(keys, features, hashes, strict=True)
        }

    def get(self, key: bytes) -> _Entry | None:
        """The entry of a content hash, if there is one."""
        return self._entries.get(key)

    def put(self, key: bytes, entry: _Entry) -> None:
        """Add an entry, if it is new."""
        if key not in self._entries:
            self._entries[key] = entry
            self._changed = True

    def save(self, keep: AbstractSet[bytes] | None = None) -> None:
        """Write the file if anything is new, with all entries or only those of some keys."""
        if self.path is None or not self._changed:
            return
        wanted = [key for key in self._entries if keep is None or key in keep]
        entries = [self._entries[key] for key in wanted]
        buffer = io.BytesIO()
        np.savez(
            buffer,
            identity=np.array(self.identity),
            keys=np.frombuffer(b"".join(wanted), np.uint8).reshape(-1, _KEY_BYTES),
            features=np.stack([entry.features for entry in entries]),
            hashes=np.array([entry.hash for entry in entries], np.uint64),
        )
        try:
            write_atomic(self.path, buffer.getvalue())
        except OutputError as error:
            if self.unkept is None:
                raise
            self.unkept(error)
        self._changed = False


def feature_identity(backbone: Backbone, views: int, seed: int) -> str:
    """What features depend on besides the photo."""
    manifest = backbone.manifest
    record = manifest.files[manifest.image_graph.file]
    facts = {"fingerprint": manifest.fingerprint, "graph": record.sha256, "provider": backbone.provider}
    return json.dumps(facts | {"views": views, "seed": seed if views else 0}, sort_keys=True)


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
    seen: set[bytes] = set()
    saved = time.monotonic()
    read = functools.partial(_read, cache, backbone.manifest.image_transform, views, seed)
    with closing(_ahead(read, paths)) as photos:
        try:
            for index, photo in enumerate(photos):
                if isinstance(photo, str):
                    failures[index] = photo
                else:
                    entry = photo.entry or _Entry(encode(photo.pixels), photo.hash)
                    cache.put(photo.key, entry)
                    seen.add(photo.key)
                    features[index], hashes[index] = entry.features, entry.hash
                progress(index + 1, len(paths))
                if time.monotonic() - saved > _SAVE_SECONDS:
                    cache.save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            cache.save()
            raise
    cache.save(keep=seen)
    return EncodedPhotos(features, hashes, failures)


@dataclass(frozen=True)
class _Photo:
    """A photo that was read: found in the cache, or decoded to pixels float32 [1+views,3,H,W] and a difference hash."""

    key: bytes
    entry: _Entry | None
    pixels: Array
    hash: int


def _read(cache: FeatureCache, transform: ImageTransform, views: int, seed: int, path: Path) -> _Photo | str:
    """Read a photo with its views, or say why that fails."""
    try:
        content = path.read_bytes()
        key = hashlib.sha256(content).digest()[:_KEY_BYTES]
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


def _ahead(
    read: Callable[[Path], _Photo | str], paths: Sequence[Path]
) -> Generator[_Photo | str, None, None]:
    """Photos in their order, a few of them read by other threads while the caller works on the one before."""
    readers = startable_threads(_READERS)
    if readers == 0:
        yield from map(read, paths)
        return
    with ThreadPoolExecutor(readers) as pool:
        started = Barrier(readers, timeout=1.0)
        for _ in range(readers):  # all start now: later the image tower's threads may have taken their place
            pool.submit(started.wait)
        waiting: deque[Future[_Photo | str]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(read, path))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
