"""First bytes decide what a file is; what is whole but of a kind that is not read is not called damaged."""

import struct

import pytest
from test_decode import encoded, refusal, smooth

from qprompt_runtime.images import read_image


def tiff_of(bands: int, bits: int = 8, compression: int = 1) -> bytes:
    """A TIFF of 4 x 4 pixels with any number of bands (TIFF 6.0, section 2)."""
    pixels, depths = bytes(2 * bands * bits), struct.pack(f"<{bands}H", *[bits] * bands)
    behind = 8 + 2 + 12 * 8 + 4
    depth_entry = behind if bands > 2 else int.from_bytes(depths, "little")
    entries = [
        (256, 4, 1, 4), (257, 4, 1, 4), (258, 3, bands, depth_entry), (259, 3, 1, compression), (262, 3, 1, 2),
        (273, 4, 1, behind + len(depths)), (277, 3, 1, bands), (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + depths + pixels


def test_whole_files_of_a_kind_that_is_not_read_are_not_called_damaged(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert read_image(tiff_of(3)).size == (4, 4)
    advice = "save it as RGB with 8 bits for each channel"
    cases = {
        tiff_of(13): "TIFF file of a kind that is not read (13 bands of 8 bits, compression 1)",
        tiff_of(5): "TIFF file of a kind that is not read (5 bands of 8 bits, compression 1)",
        tiff_of(3, 32): "TIFF file of a kind that is not read (3 bands of 32 bits, compression 1)",
        tiff_of(
            3, compression=12345
        ): "TIFF file of a kind that is not read (3 bands of 8 bits, compression 12345)",
    }
    jpeg = bytearray(encoded(smooth(16, 16), "JPEG"))
    jpeg[jpeg.index(b"\xff\xc0") + 4] = 12
    cases[bytes(jpeg)] = "JPEG file of a kind that is not read (cannot handle 12-bit layers)"
    bmp = bytearray(encoded(smooth(16, 16), "BMP"))
    bmp[30] = 9
    cases[bytes(bmp)] = "BMP file of a kind that is not read (Unsupported BMP compression (9))"
    for data, expected in cases.items():
        assert refusal(data) == f"image: is a {expected}; {advice}"
    assert capfd.readouterr().err == ""  # pillow would log one of them
    for data in (tiff_of(13)[:60], tiff_of(13)[:20], tiff_of(3)[:40]):
        assert refusal(data) == "image: damaged or incomplete TIFF file"


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x20ftypisom",
        b"\0\0\0\x14ftypqt  ",
        b"PK\3\4",
        b"%PDF-1.7",
        b"RIFF\0\0\0\0AVI LIST",
        b"8BPS\0\1",
        b"\xff",
    ],
)
def test_first_bytes_decide(head: bytes) -> None:
    assert refusal(head) == "image: is not an image"
    assert refusal(head + bytes(1000)) == "image: is not an image"
