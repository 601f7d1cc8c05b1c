"""JPEGs whose picture does not end with an end marker.

They are read if every row is there, whatever follows, and otherwise refused.
"""

import io
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import ImageTransform, read_image
from qprompt_runtime.jpeg_markers import JpegError, coefficient_bytes, is_terminated
from qprompt_runtime.jpeg_scans import picture_end

PHOTO = sorted((Path(__file__).parent.parent / "examples" / "photos").rglob("*.jpg"))[0]
KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 5},
    "progressive, restarts": {"progressive": True, "restart_marker_rows": 1},
    "full chroma": {"subsampling": 0, "optimize": True},
    "fine": {"quality": 100, "progressive": True},
    "coarse": {"quality": 5, "progressive": True},
}


@cache
def jpeg(kind: str, size: tuple[int, int] = (320, 240), mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    options = {"quality": 90, **KINDS[kind]}
    Image.open(PHOTO).resize(size).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def trailers() -> dict[str, bytes]:
    noise = random.Random(3).randbytes(50_000)
    video = b"\0\0\0\x1cftypmp42\0\0\0\0mp42isom"
    return {
        "nothing": b"",
        "a video of zeros": video + bytes(200_000),
        "a video": video + noise,
        "what Samsung's cameras write": b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1458170015363SEFH" + bytes(60),
        "another JPEG": jpeg("baseline", (64, 48)),
        "zeros": bytes(50_000),
        "ones": b"\xff" * 5_000,
        "text": b"The quick brown fox jumps over the lazy dog. " * 2_000,
        "noise": noise,
        "a box of a video, later": noise[:3] + video + noise,
    }


TRAILERS = trailers()


def is_refused(data: bytes) -> bool:
    try:
        read_image(data)
    except ImageError as error:
        return str(error).startswith("image: damaged or incomplete")
    return False


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_picture_is_read_without_its_end_marker(kind: str, trailer: str) -> None:
    whole = jpeg(kind)
    assert whole.endswith(b"\xff\xd9")
    expected = np.asarray(read_image(whole))
    assert np.array_equal(read_image(whole[:-2] + TRAILERS[trailer]), expected)
    assert np.array_equal(
        read_image(whole + TRAILERS[trailer]), expected
    )  # what phones do, and always worked


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_cut_off_is_refused(kind: str, trailer: str) -> None:
    whole = jpeg(kind)
    for missing in (len(whole) // 10, len(whole) // 2):
        assert is_refused(whole[:-missing] + TRAILERS[trailer]), missing


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_missing_bytes_are_noticed(kind: str) -> None:
    whole = jpeg(kind)
    for missing in (3, 4, 7, 13, 40):
        assert is_refused(whole[:-missing]), missing


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (37, 53), (321, 239)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_walk_ends_where_the_end_marker_was(kind: str, mode: str, size: tuple[int, int]) -> None:
    whole = jpeg(kind, size, mode)
    for data in (whole, whole[:-2], whole[:-2] + b"\xff" + whole[-2:], whole[:-2] + b"no more of it"):
        assert picture_end(io.BytesIO(data)) == len(whole) - 2


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_a_large_picture_without_its_end_is_decoded_at_reduced_size(kind: str) -> None:
    whole, small = jpeg(kind, (640, 480)), ImageTransform((8, 8))
    image = read_image(whole[:-2] + TRAILERS["a video"], small)
    assert image.size == (80, 60)
    assert np.array_equal(image, read_image(whole, small))
    with pytest.raises(ImageError, match="no end marker"):
        read_image(whole[: len(whole) * 9 // 10] + TRAILERS["a video"], small)


def test_an_end_marker_within_the_header_is_not_the_pictures() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a thumbnail: " + "\xff\xd8\xff\xd9" * 3
    stream = io.BytesIO()
    Image.open(PHOTO).save(stream, "JPEG", exif=exif.tobytes() + jpeg("baseline", (64, 48)))
    whole = stream.getvalue()
    assert np.array_equal(read_image(whole[:-2]), read_image(whole))
    assert is_refused(whole[:-400])


def test_the_first_of_several_pictures_is_read_or_refused() -> None:
    first, second = Image.open(PHOTO).resize((96, 64)), Image.open(PHOTO).resize((48, 32))
    stream = io.BytesIO()
    first.save(stream, "MPO", save_all=True, append_images=[second])
    whole = stream.getvalue()
    end = whole.index(b"\xff\xd9\xff\xd8")
    expected = np.asarray(read_image(whole))
    assert expected.shape == (64, 96, 3)
    assert np.array_equal(read_image(whole[:end] + whole[end + 2 :]), expected)
    assert np.array_equal(read_image(whole[: end + 2]), expected)
    assert np.array_equal(read_image(whole[:end]), expected)
    assert is_refused(whole[: end - 300] + whole[end + 2 :])


@pytest.mark.parametrize("kind", ["baseline", "progressive"])
def test_hostile_headers_are_answered(kind: str) -> None:
    whole, rng = jpeg(kind, (64, 48))[:-2], random.Random(5)
    for _ in range(50):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(2, 700)] = rng.randrange(256)
        try:
            answer = read_image(bytes(data)).mode
        except ImageError as error:
            answer = "RGB" if str(error).isprintable() else str(error)
        assert answer == "RGB"


def test_too_large_to_be_walked() -> None:
    data = bytearray(jpeg("baseline")[:-2])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"  # height and width
    with pytest.raises(JpegError, match="too large"):
        picture_end(io.BytesIO(data))


def test_markers_tell_an_end_from_none() -> None:
    for kind in KINDS:
        whole = jpeg(kind)
        assert is_terminated(io.BytesIO(whole + TRAILERS["a video"]))
        for trailer in TRAILERS.values():
            assert not is_terminated(io.BytesIO(whole[:-2] + trailer))
    with pytest.raises(JpegError):
        is_terminated(io.BytesIO(b"\xff\xd8\xff\xe0\0\x10JFIF"))


def test_coefficients_of_a_progressive_picture_take_memory() -> None:
    assert coefficient_bytes(io.BytesIO(jpeg("baseline"))) == 0
    assert (
        coefficient_bytes(io.BytesIO(jpeg("progressive"))) == 2 * 320 * 240 * 3 // 2
    )  # chroma is halved twice
