"""A signature around bytes: the one form of COSE_Sign1 (RFC 9052) that is written and read here.

`docs/signing.md` specifies it. A message has exactly one encoding, so the reader takes it apart with little
care for form, writes what it understood again, and compares the bytes: long forms, unknown headers, other
orders and bytes behind the end all end there. Nothing here checks a signature; `public_keys` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from qprompt_runtime.errors import TrustError

PROMPT, MANIFEST, REVOCATIONS = b"", b"qprompt-edge manifest", b"qprompt-edge revocations"
"""What a signature is for, as the message's `external_aad`: a signature of one kind never fits another."""
MARK = b"\xd2\x84"
"""How a signed message begins: the tag 18, and an array of four."""
KEY_ID_BYTES, SIGNATURE_BYTES = 8, 64
MOST_TASK_BYTES = 64
MOST = 2**32 - 1
"""The largest sequence number, and the latest time in seconds since 1970."""

_ALGORITHM = -8  # EdDSA; the keys are Ed25519's
_ALGORITHM_KEY, _KEY_ID_KEY, _CLAIMS_KEY = 1, 4, 15
_SUBJECT, _EXPIRES, _ISSUED, _SEQUENCE = 2, 4, 6, -65537
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)  # major types, RFC 8949, section 3.1
_NULL = b"\xf6"


@dataclass(frozen=True)
class Claims:
    """What a signer says about the bytes.

    Attributes:
        task: What they are for: 1 to 64 bytes of printable text without a comma.
        sequence: Grows with each that is sent out for a task, 1 to `MOST`.
        issued: When, in seconds since 1970.
        expires: From when on they are not used any more; None never.

    Raises:
        TrustError: On construction, if one of them breaks the format.
    """

    task: str
    sequence: int
    issued: int
    expires: int | None = None

    def __post_init__(self) -> None:
        check_task(self.task)
        if not 1 <= self.sequence <= MOST:
            raise TrustError(f"the sequence number is {self.sequence}, expected 1 to {MOST}")
        for name, value in (("issued", self.issued), ("expires", self.expires)):
            if value is not None and not 0 <= value <= MOST:
                raise TrustError(f"the time `{name}` is {value}, expected 0 to {MOST} seconds since 1970")

    def to_json(self) -> dict[str, str | int | None]:
        """What the signer says, as `--json` prints it."""
        return {
            "task": self.task,
            "sequence": self.sequence,
            "issued": self.issued,
            "expires": self.expires,
        }


@dataclass(frozen=True)
class SignedMessage:
    """A signed message.

    Attributes:
        key_id: 8 bytes that say which key signed.
        claims: What the signer says.
        payload: What was signed; None if that stands elsewhere (a detached signature).
        signature: 64 bytes.
    """

    key_id: bytes
    claims: Claims
    payload: bytes | None
    signature: bytes

    def to_bytes(self) -> bytes:
        """The message as it is written."""
        payload = _NULL if self.payload is None else _string(_BYTES, self.payload)
        protected = _string(_BYTES, _protected(self.key_id, self.claims))
        return MARK + protected + _head(_MAP, 0) + payload + _string(_BYTES, self.signature)

    @classmethod
    def from_bytes(cls, data: bytes) -> SignedMessage:
        """Take a message apart, trusting none of it.

        Raises:
            TrustError: The bytes are anything else than what `to_bytes` writes.
        """
        if not data.startswith(MARK):
            raise TrustError(
                f"the message begins with {data[:2].hex() or 'nothing'}, expected {MARK.hex()}, a signed message"
            )
        outer = _Reader(data, len(MARK))
        key_id, claims = _read_protected(outer.string(_BYTES))
        if outer.head() != (_MAP, 0):
            raise TrustError(
                "the message has unprotected headers, which the signature does not cover; expected none"
            )
        payload = None if outer.null() else outer.string(_BYTES)
        message = cls(key_id, claims, payload, outer.string(_BYTES))
        if len(message.signature) != SIGNATURE_BYTES or message.to_bytes() != data:
            raise TrustError(
                "the message is not in the one encoding that the format allows, or something follows it"
            )
        return message


def is_signed(data: bytes) -> bool:
    """Whether a file is a signed message by its first bytes."""
    return data.startswith(MARK)


def claims_in(data: bytes) -> Claims | None:
    """What the signer of a prompt file says, whoever that is; None if it is not signed.

    Raises:
        TrustError: A signed file breaks its format.
    """
    return SignedMessage.from_bytes(data).claims if is_signed(data) else None


def to_be_signed(key_id: bytes, claims: Claims, payload: bytes, purpose: bytes) -> bytes:
    """The bytes that the signature of a message is made over.

    Args:
        key_id: 8 bytes.
        claims: What the signer says.
        payload: What is signed, detached or not.
        purpose: `PROMPT`, `MANIFEST` or `REVOCATIONS`.
    """
    return sig_structure(_protected(key_id, claims), purpose, payload)


def sig_structure(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """`Sig_structure` of RFC 9052, section 4.4, of any COSE_Sign1 message, in its deterministic encoding."""
    parts = (protected, external_aad, payload)
    return (
        _head(_ARRAY, 4) + _string(_TEXT, b"Signature1") + b"".join(_string(_BYTES, part) for part in parts)
    )


def check_task(task: str) -> str:
    """Return a task's name if it can be one.

    Raises:
        TrustError: It is empty or too long, holds a comma or what cannot be printed, or begins or ends with a
            space.
    """
    try:
        size = len(task.encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= MOST_TASK_BYTES or not task.isprintable() or "," in task or task != task.strip():
        raise TrustError(
            f"the task is {task!r:.80}, expected 1 to {MOST_TASK_BYTES} bytes of printable text, without a comma, "
            "and no space at either end"
        )
    return task


def _protected(key_id: bytes, claims: Claims) -> bytes:
    """The protected header; its keys and those of the claims are in the order of their encoded bytes."""
    said = [
        (_SUBJECT, _string(_TEXT, claims.task.encode())),
        *([] if claims.expires is None else [(_EXPIRES, _integer(claims.expires))]),
        (_ISSUED, _integer(claims.issued)),
        (_SEQUENCE, _integer(claims.sequence)),
    ]
    header = [
        (_ALGORITHM_KEY, _integer(_ALGORITHM)),
        (_KEY_ID_KEY, _string(_BYTES, key_id)),
        (_CLAIMS_KEY, _map(said)),
    ]
    return _map(header)


def _read_protected(data: bytes) -> tuple[bytes, Claims]:
    """Key id and claims; that nothing else is in the header, the caller finds by writing it again."""
    header = _Reader(data, 0)
    algorithm, key_id, claims = None, b"", None
    for _ in range(header.expect(_MAP)):
        key = header.integer()
        if key == _ALGORITHM_KEY:
            algorithm = header.integer()
        elif key == _KEY_ID_KEY:
            key_id = header.string(_BYTES)
        elif key == _CLAIMS_KEY:
            claims = _read_claims(header)
        else:
            raise TrustError(f"the message has the header parameter {key}, which is not known here")
    if algorithm != _ALGORITHM:
        raise TrustError(f"the signature's algorithm is {algorithm}, expected {_ALGORITHM} (EdDSA)")
    if len(key_id) != KEY_ID_BYTES or claims is None:
        raise TrustError(f"the message lacks a key id of {KEY_ID_BYTES} bytes, or claims")
    return key_id, claims


def _read_claims(header: _Reader) -> Claims:
    task, numbers = None, {}
    for _ in range(header.expect(_MAP)):
        key = header.integer()
        if key == _SUBJECT:
            task = header.text()
        elif key in (_EXPIRES, _ISSUED, _SEQUENCE):
            numbers[key] = header.integer()
        else:
            raise TrustError(f"the message has the claim {key}, which is not known here")
    if task is None or _ISSUED not in numbers or _SEQUENCE not in numbers:
        raise TrustError("the message lacks a claim: it must say task, sequence and time of issue")
    return Claims(task, numbers[_SEQUENCE], numbers[_ISSUED], numbers.get(_EXPIRES))


class _Reader:
    """Reads items of CBOR one after the other; every length is checked against the bytes that are there."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data, self._offset = data, offset

    def head(self) -> tuple[int, int]:
        """Major type and argument of the next item (RFC 8949, section 3)."""
        first = self._take(1)[0]
        major, info = first >> 5, first & 31
        if info > 27:
            raise TrustError(
                f"the message holds an item of the kind 0x{first:02x}, which the format does not use"
            )
        return major, info if info < 24 else int.from_bytes(self._take(1 << (info - 24)), "big")

    def expect(self, major: int) -> int:
        """The argument of the next item, which shall be of this type."""
        found, argument = self.head()
        if found != major:
            raise TrustError(
                f"the message holds an item of CBOR's type {found} where type {major} is expected"
            )
        return argument

    def integer(self) -> int:
        major, argument = self.head()
        if major not in (_UNSIGNED, _NEGATIVE):
            raise TrustError(f"the message holds an item of CBOR's type {major} where an integer is expected")
        return argument if major == _UNSIGNED else -1 - argument

    def string(self, major: int) -> bytes:
        return self._take(self.expect(major))

    def text(self) -> str:
        try:
            return self.string(_TEXT).decode()
        except UnicodeDecodeError as error:
            raise TrustError("the message's task is not UTF-8") from error

    def null(self) -> bool:
        """Whether null comes next; then it is behind us."""
        here = self._data[self._offset : self._offset + 1] == _NULL
        self._offset += here
        return here

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._offset:
            raise TrustError("the message is cut short")
        self._offset += count
        return self._data[self._offset - count : self._offset]


def _head(major: int, argument: int) -> bytes:
    """The head of an item in its shortest form."""
    if argument < 24:
        return bytes([major << 5 | argument])
    size = next(size for size in (1, 2, 4, 8) if argument < 1 << 8 * size)
    return bytes([major << 5 | 23 + size.bit_length()]) + argument.to_bytes(size, "big")


def _integer(value: int) -> bytes:
    return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)


def _string(major: int, content: bytes) -> bytes:
    return _head(major, len(content)) + content


def _map(pairs: list[tuple[int, bytes]]) -> bytes:
    return _head(_MAP, len(pairs)) + b"".join(_integer(key) + value for key, value in pairs)
