"""Which keys may sign what: a folder of public keys and of signed revocation lists, or one public key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qprompt_runtime.cose_sign1 import KEY_ID_BYTES, REVOCATIONS, SignedMessage
from qprompt_runtime.errors import TrustError
from qprompt_runtime.public_keys import PublicKey, read_public_key
from qprompt_runtime.text import counted, printable

REVOCATION_TASK = "revocation"
PUBLIC_SUFFIX, REVOKED_SUFFIX = ".pub", ".revoked"
MOST_REVOKED = 65_535

_MOST_LIST_BYTES = 1_000_000
_ID_HEAD = bytes([0x40 | KEY_ID_BYTES])  # a byte string of that length


@dataclass(frozen=True)
class TrustStore:
    """Keys whose signatures count.

    Attributes:
        keys: In no order.
        revoked: Ids of keys that do not count any more, whether they are among `keys` or not.
    """

    keys: tuple[PublicKey, ...]
    revoked: frozenset[bytes] = frozenset()

    def signer(self, message: SignedMessage, payload: bytes, purpose: bytes) -> PublicKey:
        """The key that signed the message.

        Raises:
            TrustError: No key of the store did, or it was revoked.
        """
        named = [key for key in self.keys if key.key_id == message.key_id]
        shown = message.key_id.hex()
        if message.key_id in self.revoked:
            raise TrustError(f"the key {shown} that signed it was revoked")
        if not named:
            raise TrustError(
                f"it is signed with the key {shown}, which is not trusted here "
                f"({counted(len(self.keys), 'trusted key')})"
            )
        for key in named:
            if key.signed(message, payload, purpose):
                return key
        raise TrustError(
            f"its signature does not verify with the key {shown}: the file was altered, or the signature forged"
        )


def read_store(places: Sequence[Path], revoked: Iterable[bytes] = ()) -> TrustStore:
    """The keys that every one of several stores has, with the tasks that all of them give it.

    Args:
        places: Folders, or public keys; at least one.
        revoked: Ids of keys that were revoked before.

    Raises:
        TrustError: A store cannot be read, holds no key, or has a revocation list that does not count.
    """
    stores = [_read_place(place) for place in places]
    gone = frozenset(revoked).union(*(store.revoked for store in stores))
    common = {key.raw: key for key in stores[0].keys}
    for store in stores[1:]:
        others = {key.raw: key for key in store.keys}
        common = {raw: _narrowed(key, others[raw]) for raw, key in common.items() if raw in others}
    return TrustStore(tuple(common.values()), gone)


def revocation_payload(key_ids: Iterable[bytes]) -> bytes:
    """The payload of a revocation list: the deterministic CBOR array of the ids, ascending.

    Raises:
        TrustError: There are more than `MOST_REVOKED`.
    """
    ids = sorted(set(key_ids))
    if len(ids) > MOST_REVOKED:
        raise TrustError(f"{len(ids)} keys to revoke, expected at most {MOST_REVOKED}")
    head = (
        bytes([0x80 | len(ids)])
        if len(ids) < 24
        else bytes([0x98, len(ids)])
        if len(ids) < 256
        else b"\x99" + len(ids).to_bytes(2, "big")
    )
    return head + b"".join(_ID_HEAD + key_id for key_id in ids)


def _narrowed(key: PublicKey, other: PublicKey) -> PublicKey:
    tasks = (
        other.tasks if key.tasks is None else key.tasks if other.tasks is None else key.tasks & other.tasks
    )
    return replace(key, tasks=tasks, revokes=key.revokes and other.revokes)


def _read_place(place: Path) -> TrustStore:
    try:
        if not place.is_dir():
            return TrustStore((read_public_key(place),))
        names = sorted(place.iterdir())
    except OSError as error:
        raise TrustError(
            f"the trust store {printable(place)} cannot be read: {error.strerror or error}"
        ) from error
    keys = tuple(read_public_key(path) for path in names if path.suffix == PUBLIC_SUFFIX)
    if not keys:
        raise TrustError(
            f"the trust store {printable(place)} holds no public key (*{PUBLIC_SUFFIX}), so nothing is trusted"
        )
    owners = TrustStore(tuple(key for key in keys if key.revokes))
    revoked = [_read_list(path, owners) for path in names if path.suffix == REVOKED_SUFFIX]
    return TrustStore(keys, frozenset().union(*revoked))


def _read_list(path: Path, owners: TrustStore) -> frozenset[bytes]:
    """The ids in a revocation list that one of the owners signed."""
    try:
        with path.open("rb") as file:
            message = SignedMessage.from_bytes(file.read(_MOST_LIST_BYTES))
        payload = message.payload or b""
        owners.signer(message, payload, REVOCATIONS)
        head = {0x98: 2, 0x99: 3}.get(payload[0], 1)
        body = payload[head:]
        size = len(_ID_HEAD) + KEY_ID_BYTES
        ids = [body[start + 1 : start + size] for start in range(0, len(body), size)]
        if message.claims.task != REVOCATION_TASK or revocation_payload(ids) != payload:
            raise TrustError("it is no list of key ids")
    except OSError as error:
        raise TrustError(
            f"the revocation list {printable(path)} cannot be read: {error.strerror or error}"
        ) from error
    except (TrustError, IndexError) as error:
        raise TrustError(
            f"the revocation list {printable(path)} does not count: {error}; a list is signed by a key of its folder "
            "that has the line `revokes: yes`"
        ) from error
    return frozenset(ids)
