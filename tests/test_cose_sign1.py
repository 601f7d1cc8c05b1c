"""The bytes of a signed message: fixed ones first, then everything that is not one of them."""

from dataclasses import replace

import pytest
from signatures import CLAIMS, EXPIRES, ISSUED, PROMPT_BYTES, key, public, signed

from qprompt_edge.shipping.signing import sign_manifest, sign_revocations
from qprompt_runtime.cose_sign1 import (
    MANIFEST,
    MOST,
    PROMPT,
    Claims,
    SignedMessage,
    sig_structure,
    to_be_signed,
)
from qprompt_runtime.errors import TrustError
from qprompt_runtime.prompt_file import PromptFile

HEADER = "a301270448866eefbd6718c8840fa4026462656c74041a6b36ec80061a6955b9003a0001000007"
SIGNATURE = "7fef4ce642ae4674fddf8d6b9cd488016bef5cc57f6ab939bd8f7144b0e733166bee758c0115668e94ac1750124a504f8f1ab3f6d8527423cc8e6bd5b3198300"
LITERAL = bytes.fromhex("d284" "5827" + HEADER + "a0" "5858" + PROMPT_BYTES.hex() + "5840" + SIGNATURE)  # fmt: skip


def message(
    header: str = HEADER, start: str = "d284", unprotected: str = "a0", payload: str = "", end: str = ""
) -> bytes:
    """The bytes of the literal example with one part written otherwise."""
    head = "58" + f"{len(header) // 2:02x}" if len(header) // 2 > 23 else f"{0x40 + len(header) // 2:02x}"
    return bytes.fromhex(
        start
        + head
        + header
        + unprotected
        + (payload or "5858" + PROMPT_BYTES.hex())
        + "5840"
        + SIGNATURE
        + end
    )


def test_a_prompt_signed_with_the_key_of_the_rfc_is_these_bytes() -> None:
    assert signed() == LITERAL
    assert SignedMessage.from_bytes(LITERAL) == SignedMessage(
        bytes.fromhex("866eefbd6718c884"),
        Claims("belt", 7, ISSUED, EXPIRES),
        PROMPT_BYTES,
        bytes.fromhex(SIGNATURE),
    )
    assert PromptFile.from_bytes(LITERAL).to_bytes() == PROMPT_BYTES


def test_the_key_id_is_the_start_of_the_cose_thumbprint() -> None:
    from hashlib import sha256

    import cbor2

    thumbprint = sha256(cbor2.dumps({1: 1, -1: 6, -2: public().raw}, canonical=True)).digest()
    assert public().key_id == thumbprint[:8]


def test_what_is_signed_is_the_sig_structure_of_the_example_of_the_cose_working_group() -> None:
    # eddsa-sig-01 of cose-wg/Examples, with the key of RFC 8032, section 7.1, test 1
    structure = sig_structure(bytes.fromhex("a201270300"), b"", b"This is the content.")
    expected = "7142fd2ff96d56db85bee905a76ba1d0b7321a95c8c4d3607c5781932b7afb8711497dfa751bf40b58b3bcc32300b1487f3db34085eef013bf08f4a44d6fef0d"
    assert key().sign(structure).hex() == expected


def test_what_is_signed_is_the_sig_structure_of_rfc_9052() -> None:
    # appendix C.2.1 and the key "11" of C.7.1
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    x = "bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff"
    y = "20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e"
    signature = "8eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36"
    theirs = ec.EllipticCurvePublicNumbers(int(x, 16), int(y, 16), ec.SECP256R1()).public_key()
    pair = utils.encode_dss_signature(int(signature[:64], 16), int(signature[64:], 16))
    theirs.verify(
        pair, sig_structure(bytes.fromhex("a10126"), b"", b"This is the content."), ec.ECDSA(SHA256())
    )
    # and the message itself is refused: another algorithm, and its key id is not signed
    whole = f"d28443a10126a10442313154546869732069732074686520636f6e74656e742e5840{signature}"
    with pytest.raises(TrustError, match="algorithm is -7"):
        SignedMessage.from_bytes(bytes.fromhex(whole))


@pytest.mark.parametrize(
    ("claims", "more"),
    [
        (replace(CLAIMS, expires=None), 107),
        (CLAIMS, 113),
        (replace(CLAIMS, task="t" * 16), 125),
        (replace(CLAIMS, task="t" * 16, sequence=65_535), 127),
        (replace(CLAIMS, task="t" * 16, sequence=MOST), 129),
    ],
)
def test_a_signature_takes_as_many_bytes_as_the_page_says(claims: Claims, more: int) -> None:
    changes = {"task": claims.task, "sequence": claims.sequence, "expires": claims.expires}
    assert len(signed(content=bytes(469), **changes)) - 469 == more
    assert len(signed(content=bytes(255), **changes)) - 255 == more - 1


def test_the_three_kinds_of_signature_are_over_different_bytes() -> None:
    assert (
        len(
            {
                to_be_signed(bytes(8), CLAIMS, b"x", purpose)
                for purpose in (PROMPT, MANIFEST, b"qprompt-edge revocations")
            }
        )
        == 3
    )
    detached = SignedMessage.from_bytes(sign_manifest(b"{}", key(), replace(CLAIMS, task="backbone")))
    assert detached.payload is None
    listed = SignedMessage.from_bytes(sign_revocations([b"b" * 8, b"a" * 8, b"a" * 8], key(), CLAIMS))
    assert listed.payload == b"\x82\x48aaaaaaaa\x48bbbbbbbb"


CLAIMS_AT = HEADER.index("a40264")
REFUSED = {
    "nothing": b"",
    "the tag of COSE_Sign": message(start="d86284"),
    "the tag of COSE_Mac0": message(start="d184"),
    "no tag": message(start="84"),
    "the tag in a long form": message(start="d81284"),
    "an array of five": message(start="d285", end="f6"),
    "an array in a long form": message(start="d29804"),
    "another algorithm, -7": message(HEADER.replace("0127", "0126", 1)),
    "another algorithm, -19": message(HEADER.replace("0127", "0132", 1)),
    "the algorithm in a long form": message(HEADER.replace("0127", "013807", 1)),
    "no algorithm": message("a2" + HEADER[6:]),
    "no key id": message("a2" + HEADER[2:6] + HEADER[26:]),
    "a key id of seven bytes": message(HEADER.replace("0448", "0447", 1).replace("c884", "c8", 1)),
    "no claims": message("a2" + HEADER[2:26]),
    "a critical header": message("a4" + HEADER[2:6] + "028101" + HEADER[6:]),
    "an unknown header": message("a4" + HEADER[2:] + "182a00"),
    "a content type": message("a4" + HEADER[2:6] + "0300" + HEADER[6:]),
    "a header given twice": message("a4" + HEADER[2:6] + HEADER[2:6] + HEADER[6:]),
    "headers in another order": message("a3" + HEADER[6:26] + HEADER[2:6] + HEADER[26:]),
    "an indefinite map": message("bf" + HEADER[2:] + "ff"),
    "no headers": message(""),
    "something behind the headers": message(HEADER + "00"),
    "an unprotected key id": message(unprotected="a10448866eefbd6718c884"),
    "unprotected claims": message(unprotected="a10fa1026462656c74"),
    "unprotected headers in a long form": message(unprotected="b800"),
    "an unknown claim": message(HEADER[:CLAIMS_AT] + "a5" + HEADER[CLAIMS_AT + 2 :] + "390001f6"),
    "an issuer": message(HEADER[:CLAIMS_AT] + "a5016178" + HEADER[CLAIMS_AT + 2 :]),
    "no task": message(HEADER.replace("a4026462656c74", "a3", 1)),
    "no time of issue": message(HEADER.replace("a40264", "a30264", 1).replace("061a6955b900", "", 1)),
    "no sequence": message(HEADER.replace("a40264", "a30264", 1).replace("3a0001000007", "", 1)),
    "sequence 0": message(HEADER[:-2] + "00"),
    "a negative sequence": message(HEADER[:-2] + "20"),
    "a sequence too large": message(HEADER[:-2] + "1b0000000100000000"),
    "a sequence in a long form": message(HEADER[:-2] + "1807"),
    "a sequence as text": message(HEADER[:-2] + "6137"),
    "a time as float": message(HEADER.replace("061a6955b900", "06fa4ed2ab72", 1)),
    "a negative expiry": message(HEADER.replace("041a6b36ec80", "043a6b36ec80", 1)),
    "a task as bytes": message(HEADER.replace("026462656c74", "024462656c74", 1)),
    "a task that is not UTF-8": message(HEADER.replace("6462656c74", "64ff656c74", 1)),
    "a task with a comma": message(HEADER.replace("6462656c74", "64622c6c74", 1)),
    "a task with a line break": message(HEADER.replace("6462656c74", "64620a6c74", 1)),
    "an empty task": message(HEADER.replace("6462656c74", "60", 1)),
    "a detached payload of no length": message(payload="f7"),
    "a payload in a long form": message(payload="590058" + PROMPT_BYTES.hex()),
    "a payload that is text": message(payload="6161"),
    "a payload longer than the file": message(payload="5b7fffffffffffffff" + PROMPT_BYTES.hex()),
    "a byte behind the end": message(end="00"),
    "a second message behind it": LITERAL + LITERAL,
    "a signature of 63 bytes": LITERAL[:-66] + b"\x58\x3f" + LITERAL[-63:],
    "a signature in a long form": LITERAL[:-66] + b"\x59\x00\x40" + LITERAL[-64:],
    "a message as its own payload, tagged twice": b"\xd2" + LITERAL,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_one_encoding_is_refused(name: str) -> None:
    assert REFUSED[name] != LITERAL
    with pytest.raises(TrustError):
        SignedMessage.from_bytes(REFUSED[name])


def test_a_message_cut_short_anywhere_is_refused() -> None:
    for length in range(len(LITERAL)):
        with pytest.raises(TrustError):
            SignedMessage.from_bytes(LITERAL[:length])


@pytest.mark.parametrize("task", ["", " belt", "belt ", "a,b", "a\nb", "ü" * 33, "t" * 65, "\ud800"])
def test_a_task_that_cannot_be_one_is_refused(task: str) -> None:
    with pytest.raises(TrustError, match="the task is"):
        Claims(task, 1, 0)


@pytest.mark.parametrize(
    ("sequence", "issued", "expires"), [(0, 0, None), (2**32, 0, None), (1, -1, None), (1, 0, 2**32)]
)
def test_numbers_out_of_range_are_refused(sequence: int, issued: int, expires: int | None) -> None:
    with pytest.raises(TrustError, match="expected"):
        Claims("belt", sequence, issued, expires)
