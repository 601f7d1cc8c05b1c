"""Features of photos on disk, found by the photo's content, in whichever folder it is.

There is one file for each identity: the backbone, and all else that features depend on. Its records have one
length and are only ever added at its end, so each feature is written once, however many there are. A record
ends in a checksum that the identity is part of: what is torn, damaged or another identity's is no record, and
never a wrong feature. Who writes locks the file, and first cuts off what a process that died left of a
record.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import OutputError

KEY_BYTES = 16
_HEADER = struct.Struct("<8s16sII")  # magic, hash of the identity and of what follows, views, width
_MAGIC = b"QPEFEAT1"
_START = struct.Struct(f"<{KEY_BYTES}sQ")  # a record: key, difference hash, features, checksum
_CHECK_BYTES = 8
_BLOCK = 2**20
_HASHED_BYTES = 2**18  # a new block each time would cost more than its hash


@dataclass(frozen=True)
class Entry:
    """What is kept of a photo.

    Attributes:
        features: float32 [V,E].
        hash: 64 bits, see `splits.difference_hash`.
    """

    features: Array
    hash: int


def content_key(file: BinaryIO) -> bytes:
    """The key of a file's content, `KEY_BYTES` of its SHA-256; it is read in blocks, from its beginning."""
    digest, block = hashlib.sha256(), memoryview(bytearray(_HASHED_BYTES))
    file.seek(0)
    while count := file.readinto(block):  # type: ignore[attr-defined]
        digest.update(block[:count])
    return digest.digest()[:KEY_BYTES]


def feature_file(folder: Path, identity: str) -> Path:
    """The file in a cache folder that holds the features of an identity."""
    return folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.features"


class FeatureCache:
    """Features on disk, by content. `get` may be called from several threads, the rest from one.

    Args:
        path: The cache file; None keeps nothing on disk.
        identity: What the features depend on besides the photo; a file of another identity counts as empty.
        unkept: Takes the error where the file cannot be written; None raises it.
    """

    def __init__(
        self, path: Path | None, identity: str, unkept: Callable[[OutputError], None] | None = None
    ) -> None:
        self.path, self.unkept = path, unkept
        self._salt = hashlib.sha256(identity.encode()).digest()[:16]
        self._shape = (0, 0)
        self._index = _Index.of(np.zeros(0, np.uint64), np.zeros(0, np.int64))
        self._new: dict[bytes, Entry] = {}
        if path is not None:
            with contextlib.suppress(OSError):  # what cannot be read counts as empty
                self._load(path)

    def _load(self, path: Path) -> None:
        """Note where records lie; what is in them is checked when one is asked for."""
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            shape = _HEADER.unpack(head)[2:] if len(head) == _HEADER.size else (0, 0)
            if head != self._header(shape):
                return
            size = _record_bytes(shape)
            heads = []
            while block := file.read(max(1, _BLOCK // size) * size):
                whole = np.frombuffer(block, np.uint8, len(block) // size * size).reshape(-1, size)
                heads.append(whole[:, :8].copy().view("<u8")[:, 0])
        found = np.concatenate(heads) if heads else np.zeros(0, np.uint64)
        self._shape = shape
        self._index = _Index.of(found, _HEADER.size + size * np.arange(len(found)))

    def get(self, key: bytes) -> Entry | None:
        """The entry of a content hash of `KEY_BYTES`, if there is a sound one."""
        entry = self._new.get(key)
        place = None if entry is not None else self._index.place(key)
        if place is None or self.path is None:
            return entry
        try:
            with self.path.open("rb") as file:
                file.seek(place)
                record = file.read(_record_bytes(self._shape))
        except OSError:
            return None
        body = record[:-_CHECK_BYTES]
        if not body.startswith(key) or record[-_CHECK_BYTES:] != self._checksum(body):
            return None
        features = np.frombuffer(body, "<f4", offset=_START.size).reshape(self._shape)
        return Entry(features.astype(np.float32), _START.unpack_from(body)[1])

    def put(self, key: bytes, entry: Entry) -> None:
        """Add an entry; `save` writes it."""
        self._new[key] = entry

    def save(self) -> None:
        """Add what is new to the file.

        Raises:
            OutputError: It cannot be written, and there is no `unkept`. Nothing is lost: the next call tries
                again.
        """
        if self.path is None or not self._new:
            return
        shape = next(iter(self._new.values())).features.shape
        added = b"".join(self._record(key, entry) for key, entry in self._new.items())
        try:
            begin = self._append(self.path, (shape[0], shape[1]), added)
        except OSError as error:
            refused = OutputError(
                f"cannot keep features in {self.path}: {error.strerror or error}; choose another place or free some "
                "space"
            )
            if self.unkept is None:
                raise refused from error
            self.unkept(refused)
            return
        heads = np.array([int.from_bytes(key[:8], "little") for key in self._new], np.uint64)
        places = begin + _record_bytes(self._shape) * np.arange(len(heads))
        self._index = self._index.joined(heads, places)
        self._new = {}

    def _append(self, path: Path, shape: tuple[int, int], added: bytes) -> int:
        """Write records behind those that are there, or into an empty file; returns where they begin."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "ab") as file:
            with contextlib.suppress(OSError):  # where files cannot be locked, checksums are enough
                fcntl.flock(handle, fcntl.LOCK_EX)
            header, size = self._header(shape), _record_bytes(shape)
            if os.pread(handle, _HEADER.size, 0) == header:
                torn = (os.fstat(handle).st_size - _HEADER.size) % size
                begin = os.fstat(handle).st_size - torn
                os.ftruncate(handle, begin)
            else:
                os.ftruncate(handle, 0)
                begin, added = _HEADER.size, header + added
                self._index = _Index.of(np.zeros(0, np.uint64), np.zeros(0, np.int64))
            self._shape = shape
            file.write(added)
            file.flush()
            os.fsync(handle)
        return begin

    def _header(self, shape: tuple[int, int]) -> bytes:
        digest = hashlib.blake2b(struct.pack("<II", *shape), digest_size=16, key=self._salt).digest()
        return _HEADER.pack(_MAGIC, digest, *shape)

    def _record(self, key: bytes, entry: Entry) -> bytes:
        body = _START.pack(key, entry.hash) + np.ascontiguousarray(entry.features, "<f4").tobytes()
        return body + self._checksum(body)

    def _checksum(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, digest_size=_CHECK_BYTES, key=self._salt).digest()


def _record_bytes(shape: tuple[int, int]) -> int:
    return _START.size + 4 * shape[0] * shape[1] + _CHECK_BYTES


@dataclass(frozen=True)
class _Index:
    """Where records begin, 16 bytes a record.

    Attributes:
        heads: [N] uint64, sorted: the first 8 bytes of each key, which differ well enough; the record has the
            rest.
        places: [N] int64; of records with the same key, the last one is valid.
    """

    heads: NDArray[np.uint64]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, heads: NDArray[np.uint64], places: NDArray[np.int64]) -> _Index:
        """Sort records that stand in the order of the file."""
        order = np.argsort(heads, kind="stable")
        return cls(heads[order], places[order])

    def joined(self, heads: NDArray[np.uint64], places: NDArray[np.int64]) -> _Index:
        """With further records."""
        return self.of(np.concatenate([self.heads, heads]), np.concatenate([self.places, places]))

    def place(self, key: bytes) -> int | None:
        """Where the last record lies that may be a key's."""
        head = np.uint64(int.from_bytes(key[:8], "little"))
        after = int(np.searchsorted(self.heads, head, side="right"))
        return int(self.places[after - 1]) if after and self.heads[after - 1] == head else None
