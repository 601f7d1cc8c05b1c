"""What a PNG carries beside its picture does not cost it; what the picture needs is kept."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import read_image
from qprompt_runtime.png_chunks import needed_parts

PIXELS = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
HEADER_END = 8 + 25


def chunk(name: bytes, data: bytes, check: int | None = None) -> bytes:
    check = zlib.crc32(name + data) if check is None else check
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def png(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG", **options)
    return stream.getvalue()


def with_chunk(extra: bytes, behind: bool) -> bytes:
    plain = png()
    at = len(plain) - 12 if behind else HEADER_END
    return plain[:at] + extra + plain[at:]


LONG = zlib.compress(b"x" * 3_000_000)
EXTRAS = {
    "a packed text of 3 MB": chunk(b"zTXt", b"Comment\0\0" + LONG),
    "packed XMP of 3 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "a packed profile of 3 MB": chunk(b"iCCP", b"profile\0\0" + LONG),
    "many texts": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 1_000_000)) * 80,
    "a text of 3 MB": chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
    "a damaged text": chunk(b"tEXt", b"Comment\0good", 7),
    "a damaged orientation": chunk(b"eXIf", b"MM\0*", 7),
    "damaged transparency": chunk(b"tRNS", b"\0", 7),
    "gamma without a value": chunk(b"gAMA", b""),
    "an animation without a plan": chunk(b"acTL", b""),
    "something of one's own": chunk(b"prVt", os.urandom(100)),
}


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind the pixels"])
@pytest.mark.parametrize("extra", EXTRAS)
def test_extra_chunks_do_not_matter(extra: str, behind: bool) -> None:
    assert np.array_equal(read_image(with_chunk(EXTRAS[extra], behind)), PIXELS)


def test_how_pillow_writes_them() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "x" * 1126400, zip=True)
    assert np.array_equal(read_image(png(pnginfo=info, icc_profile=bytes(2_000_000))), PIXELS)


@pytest.mark.parametrize("packed", [False, True])
def test_orientation_is_kept_wherever_it_is(packed: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(PIXELS, -1)
    assert np.array_equal(read_image(png(exif=exif, icc_profile=bytes(2_000_000))), turned)
    assert np.array_equal(read_image(with_chunk(chunk(b"eXIf", exif.tobytes()[6:]), behind=True)), turned)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=packed)
    assert np.array_equal(read_image(png(pnginfo=info)), turned)


def test_pixels_and_palettes_matter() -> None:
    plain = png()
    for damaged in (plain[:29] + b"abcd" + plain[33:], plain[: len(plain) // 2]):
        with pytest.raises(ImageError, match="damaged or incomplete"):
            read_image(damaged)
    palette = io.BytesIO()
    Image.fromarray(PIXELS).quantize(8).save(palette, "PNG", transparency=bytes([255, 0] * 4))
    assert needed_parts(palette) == [(0, len(palette.getvalue()))]
    damaged = palette.getvalue().replace(b"PLTE", b"PLTF")
    with pytest.raises(ImageError, match="damaged or incomplete"):
        read_image(damaged)


def test_a_chunk_of_gigabytes_is_not_taken_into_memory() -> None:
    class Sparse(io.BytesIO):
        """A file with two gigabytes of zeros behind its end."""

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 <= size < 10_000_000
            return super().read(size)

        def seek(self, offset: int, whence: int = 0) -> int:
            return (1 << 31) + offset if whence == 2 else super().seek(offset, whence)

    head = png()[:HEADER_END] + struct.pack(">I", 1 << 30) + b"tEXt"
    parts = needed_parts(Sparse(head))
    assert parts[0] == (0, HEADER_END)
