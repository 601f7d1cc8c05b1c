"""Photos come as paths, bytes, open files, pictures and arrays.

Anything else is refused in one line.
"""

import io
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prompts import TINY

from qprompt_edge.tuning.ptq import make_group
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import ImageTransform, load_pixels, read_image
from qprompt_runtime.photo_sources import Spliced

PHOTO = sorted((Path(__file__).parent.parent / "examples" / "photos").rglob("*.jpg"))[0]
FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def refusal(source: object, **options: str) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_everything_that_holds_a_file_gives_the_same_picture(tmp_path: Path) -> None:
    content, expected = PHOTO.read_bytes(), np.asarray(read_image(PHOTO))
    written = io.BytesIO()
    written.write(content)  # its position is at the end
    with (
        PHOTO.open("rb") as opened,
        PHOTO.open("rb", buffering=0) as raw,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        opened.read(100)
        spooled.write(content)
        for source in (
            str(PHOTO),
            content,
            bytearray(content),
            memoryview(content),
            written,
            opened,
            raw,
            spooled,
        ):
            assert np.array_equal(read_image(source), expected), source  # type: ignore[arg-type]
            assert np.array_equal(read_image(source), expected), source  # type: ignore[arg-type]
        assert not opened.closed


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_every_format_is_read_from_an_open_file(kind: str) -> None:
    stream = io.BytesIO()
    Image.open(PHOTO).save(stream, kind)
    assert np.array_equal(read_image(stream), read_image(stream.getvalue()))


def test_an_array_is_rgb_unless_bgr_is_said() -> None:
    assert np.array_equal(read_image(FRAME), FRAME)
    assert np.array_equal(read_image(FRAME[..., ::-1], channels="BGR"), FRAME)
    assert np.array_equal(read_image(FRAME[::2, ::-1]), FRAME[::2, ::-1])  # however it lies in memory
    small = ImageTransform((8, 8))
    assert np.array_equal(load_pixels(FRAME, small), load_pixels(Image.fromarray(FRAME), small))
    frame = FRAME.copy()
    image = read_image(frame)
    frame[:] = 0  # a camera's next picture
    assert np.array_equal(image, FRAME)


@pytest.mark.parametrize(
    ("array", "shown"),
    [
        (FRAME[..., 0], "uint8 [4, 6]"),
        (np.zeros((4, 6, 4), np.uint8), "uint8 [4, 6, 4]"),
        (FRAME.transpose(2, 0, 1), "uint8 [3, 4, 6]"),
        (FRAME[None], "uint8 [1, 4, 6, 3]"),
        (FRAME / 255, "float64 [4, 6, 3]"),
        (FRAME.astype(np.int64), "int64 [4, 6, 3]"),
        (FRAME[:0], "uint8 [0, 6, 3]"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, shown: str) -> None:
    message = refusal(array)
    assert message.startswith(f"image: an array of {shown}; expected uint8 [height, width, 3]")


def test_channels_are_for_arrays() -> None:
    assert "expected 'RGB', or 'BGR' for an array" in refusal(FRAME, channels="bgr")
    assert "expected 'RGB', or 'BGR' for an array" in refusal(PHOTO, channels="BGR")


def test_what_is_no_photo_source_is_refused() -> None:
    assert refusal(None).startswith("image: cannot be read from NoneType; give a path")
    assert "cannot be read from list" in refusal([FRAME])
    assert refusal(io.StringIO("text")) == "image: is open as text; open it with mode 'rb'"
    assert refusal(io.BytesIO()) == "image: is empty (0 bytes)"
    with PHOTO.open("rb") as closed:
        pass
    assert refusal(closed).startswith(f"{PHOTO}: cannot be rewound")
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert "cannot be rewound" in refusal(pipe)


def test_a_file_that_fails_while_it_is_read() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    assert "Input/output error" in refusal(Failing(PHOTO.read_bytes()))


def test_a_classifier_takes_what_a_camera_gives(tiny: Backbone) -> None:
    group = make_group("text-context", tiny.embed_text("a photo of a"), 32)
    classifier = PromptClassifier(replace(TINY, groups=(group,), fingerprint=tiny.fingerprint), tiny)
    frame = np.asarray(read_image(PHOTO))
    expected = classifier.predict(Image.fromarray(frame))
    assert classifier.predict(frame) == expected
    assert classifier.predict(frame[..., ::-1], channels="BGR") == expected
    with PHOTO.open("rb") as file:
        assert classifier.predict(file) == classifier.predict(PHOTO)


def test_parts_of_a_file_read_like_a_file() -> None:
    raw = Spliced(io.BytesIO(b"0123456789"), [(2, 4), (4, 4), (7, 9)], b"end")
    spliced = io.BufferedReader(raw)
    assert spliced.read() == b"2378end"
    for position in range(8):
        assert spliced.seek(position) == position
        assert spliced.read(3) == b"2378end"[position : position + 3]
    assert spliced.seek(-3, io.SEEK_END) == 4
    assert spliced.read() == b"end"
