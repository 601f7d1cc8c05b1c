"""Photos of every kind become upright RGB; broken and dangerous ones become one line that names the file."""

import io
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import ImageTransform, load_pixels, read_image, to_pixels

SMALL = ImageTransform((8, 8))
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

STORED_AS = {  # how the sensor's rows and columns lie in the file (EXIF 2.3, section 4.6.4)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def smooth(width: int, height: int) -> Image.Image:
    """A picture without symmetry and without detail that a JPEG would lose."""
    x, y = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
    channels = [255 * x + 0 * y, 255 * y + 0 * x, 127 * (1 + np.sin(3 * x + 5 * y))]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(bytes(64)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


def refusal(source: object, transform: ImageTransform | None = SMALL) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source, transform)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.isprintable()
    return message


# What is read


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_content_decides_not_the_suffix(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.txt"
    path.write_bytes(encoded(smooth(40, 30), kind))
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert np.abs(np.asarray(image, int) - np.asarray(smooth(40, 30), int)).mean() < 12
    assert load_pixels(str(path), SMALL).shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["a b.png", "écaille.png", "two\nlines.png", "x" * 200, "日本.png"])
def test_odd_file_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(smooth(9, 9), "PNG"))
    assert read_image(tmp_path / name).size == (9, 9)
    (tmp_path / name).write_bytes(b"")
    assert refusal(tmp_path / name).endswith("is empty (0 bytes)")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    upright = smooth(48, 32)
    stored = upright.transpose(STORED_AS[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {} if kind in ("PNG", "TIFF") else {"quality": 95}
    image = read_image(encoded(stored, kind, exif=exif.tobytes(), **quality))
    assert image.size == upright.size
    assert np.abs(np.asarray(image, int) - np.asarray(upright, int)).mean() < 4
    assert read_image(image).size == upright.size  # a second reading does not turn it again


def test_a_pillow_image_is_turned_too_and_not_changed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = Image.open(io.BytesIO(encoded(smooth(48, 32), "JPEG", exif=exif.tobytes())))
    assert read_image(source).size == (32, 48)
    assert source.size == (48, 32)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_meaningless_orientation_is_upright(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert read_image(encoded(smooth(48, 32), "JPEG", exif=exif.tobytes())).size == (48, 32)


def test_damaged_exif_does_not_cost_the_photo() -> None:
    data = encoded(smooth(48, 32), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(20))
    assert read_image(data, SMALL).size == (48, 32)


def test_palette_grey_bilevel_and_cmyk() -> None:
    assert read_image(encoded(smooth(9, 9).quantize(16), "PNG")).mode == "RGB"
    grey = read_image(encoded(Image.new("L", (4, 4), 77), "PNG"))
    assert grey.getpixel((0, 0)) == (77, 77, 77)
    assert read_image(encoded(Image.new("1", (4, 4), 1), "PNG")).getpixel((0, 0)) == WHITE
    cmyk = read_image(encoded(Image.new("RGB", (16, 16), RED).convert("CMYK"), "JPEG", quality=100))
    assert np.abs(np.asarray(cmyk, int) - np.array(RED)).max() < 8


def test_transparent_pixels_become_white() -> None:
    rgba = Image.new("RGBA", (2, 1), (*RED, 255))
    rgba.putpixel((1, 0), (*BLUE, 0))
    image = read_image(encoded(rgba, "PNG"))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [RED, WHITE]
    half = read_image(encoded(Image.new("LA", (1, 1), (0, 128)), "PNG")).getpixel((0, 0))
    assert abs(half[0] - 127) <= 1
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([*GREEN, *BLUE])
    palette.putpixel((1, 0), 1)
    for transparency in (1, bytes([255, 0])):  # one colour, or an alpha for each
        image = read_image(encoded(palette, "PNG", transparency=transparency))
        assert [image.getpixel((x, 0)) for x in (0, 1)] == [GREEN, WHITE]
    key = read_image(encoded(Image.new("RGB", (1, 1), BLUE), "PNG", transparency=BLUE))
    assert key.getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    levels = np.array([[0, 256, 257 * 100, 65535]], dtype=np.uint16)
    image = read_image(encoded(Image.fromarray(levels), kind))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 100, 255]


def test_other_depths_are_refused_with_advice() -> None:
    assert "8 or 16 bits" in refusal(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))
    assert "8 or 16 bits" in refusal(encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF"))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(data).getpixel((0, 0)) == RED


def test_heic_is_read_or_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(64))
    try:
        import pillow_heif
    except ImportError:
        message = refusal(path)
        assert message.startswith(str(path))
        assert message.endswith("pip install 'qprompt-edge[heic]'")
        return
    assert "damaged or incomplete" in refusal(path)
    pillow_heif.from_pillow(smooth(64, 48)).save(path, quality=90)
    assert read_image(path).size == (64, 48)


# What is refused


def test_no_file_a_folder_an_empty_file_a_text(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.jpg") == f"{tmp_path / 'no.jpg'}: no such file"
    assert refusal(tmp_path) == f"{tmp_path}: is a folder, not an image"
    text = tmp_path / "text.jpg"
    text.write_text("not an image\n" * 100)
    assert refusal(text) == f"{text}: is not an image"
    assert refusal(b"") == "image: is empty (0 bytes)"
    assert "cannot be opened" in refusal("a\0b.jpg")
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").endswith("is not a regular file")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_truncated_files(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    assert refusal(data[: int(share * len(data))]).startswith("image: ")


@settings(max_examples=150)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF"]), data=st.data())
def test_any_damage_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(smooth(24, 16), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        mode = read_image(bytes(content), SMALL).mode
    except ImageError as error:
        mode = "RGB" if str(error).isprintable() else str(error)
    assert mode == "RGB"


@pytest.mark.parametrize("side", [11_000, 12_000, 60_000])
def test_bombs_are_refused_from_the_header(side: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "more than 120 million pixels" in refusal(png_claiming(side, side))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pillows_own_warning_is_not_ours() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "damaged" in refusal(
            png_claiming(10_000, 10_000 - 1)
        )  # within the cap, but without the pixels


# JPEGs at reduced size


def test_large_jpegs_are_decoded_at_reduced_size_where_enough_remains() -> None:
    data = encoded(smooth(640, 480), "JPEG", quality=92)
    assert read_image(data).size == (640, 480)
    assert read_image(data, SMALL).size == (80, 60)
    assert read_image(data, ImageTransform((40, 40))).size == (160, 120)
    assert read_image(data, ImageTransform((160, 160))).size == (640, 480)
    assert read_image(encoded(smooth(641, 480), "JPEG"), SMALL).size == (641, 480)  # would shift the pixels
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(smooth(640, 480), "JPEG", exif=exif.tobytes())
    assert read_image(turned, ImageTransform((80, 20), "squash")).size == (240, 320)


def test_reduced_size_hardly_changes_real_photos() -> None:
    folder = os.environ.get("QPE_DATA")
    if not folder or not (Path(folder) / "photos-full-size.zip").exists():
        pytest.skip("QPE_DATA does not name the folder of real images")
    transform = ImageTransform((48, 48))
    cosines = []
    with zipfile.ZipFile(Path(folder) / "photos-full-size.zip") as archive:
        for name in archive.namelist()[:20]:
            full = read_image(archive.read(name))
            full = full.crop((0, 0, full.width // 8 * 8, full.height // 8 * 8))
            data = encoded(full, "JPEG", quality=92)
            reduced = load_pixels(data, transform).ravel()
            whole = to_pixels(read_image(data), transform).ravel()
            cosines.append(reduced @ whole / np.linalg.norm(reduced) / np.linalg.norm(whole))
    assert min(cosines) > 0.9997, cosines
