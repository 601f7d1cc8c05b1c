"""Memory of decoding.

It is known from the header, stays within what there is, and is never out of proportion to the photo.
"""

import io
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE
from PIL import Image
from scenes import write_photos
from test_decode import png_claiming, refusal

from qprompt_edge.data import features
from qprompt_edge.data.features import encode_photos
from qprompt_edge.memory import check_photo
from qprompt_runtime import decode_cost, memory_left
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import ImageTransform, load_pixels, read_image, reading_bytes

MODEL = ImageTransform((224, 224))
VIDEO = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"


def flat_jpeg(width: int, height: int) -> bytes:
    """A grey JPEG of any size, without the pixels: a block is 001010, four are three bytes."""
    stream = io.BytesIO()
    Image.new("L", (8, 8), 128).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    data[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    blocks = -(-width // 8) * -(-height // 8)
    return bytes(data[: scan + 10]) + b"\x28\xa2\x8a" * -(-blocks // 4) + b"\xff\xd9"


def peak_growth(before: int) -> int:
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


# Size of photos


@pytest.mark.parametrize("size", [(16320, 12240), (16321, 12241)])
def test_a_jpeg_of_200_megapixels_is_decoded_small(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(flat_jpeg(*size))
    assert reading_bytes(path, MODEL) < 30_000_000
    code = f"""
import resource, sys
from qprompt_runtime.images import ImageTransform, read_image
read_image({str(Path(__file__).parent.parent / "examples/photos/stone/00.jpg")!r}, ImageTransform((224, 224)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(read_image({str(path)!r}, ImageTransform((224, 224))).size)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, growth = done.stdout.splitlines()
    assert shown == str((-(-size[0] // 8), -(-size[1] // 8)))
    assert int(growth) < 60_000_000


def test_the_cap_is_on_what_is_decoded() -> None:
    data = flat_jpeg(16320, 12240)
    assert "more than 120 million pixels" in refusal(data, None)
    assert "claims 16320 x 12240" in refusal(data, ImageTransform((2100, 2100)))
    assert "more than 120 million pixels" in refusal(png_claiming(16320, 12240), MODEL)


# Memory there is


def test_what_takes_more_memory_than_there_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_cost, "memory_left", lambda: 100_000_000)
    reason = (
        "takes 150 MB of memory to decode, but only 85 MB of the free memory may be used; shrink it first"
    )
    assert refusal(png_claiming(6000, 5000), MODEL) == f"image: {reason}"
    assert load_pixels(flat_jpeg(6000, 5000), MODEL).shape == (3, 224, 224)  # decoded small
    monkeypatch.setattr(decode_cost, "memory_left", lambda: None)
    assert "damaged" in refusal(png_claiming(6000, 5000), MODEL)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "each"),
    [
        ("PNG", "RGB", {}, 4),
        ("PNG", "RGBA", {}, 8),
        ("PNG", "P", {}, 5),
        ("PNG", "LA", {}, 12),
        ("PNG", "I;16", {}, 7),
        ("JPEG", "RGB", {}, 4),
        ("JPEG", "RGB", {"progressive": True}, 7),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 10),
        ("JPEG", "CMYK", {}, 8),
        ("TIFF", "RGB", {}, 4),
        ("WEBP", "RGB", {}, 16),
    ],
)
def test_the_header_tells_what_decoding_takes(kind: str, mode: str, options: dict, each: int) -> None:
    image = Image.new(mode, (160, 160))
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    assert reading_bytes(stream, ImageTransform((160, 160))) == 160 * 160 * each
    exif = Image.Exif()
    exif[0x0112] = 6
    if mode == "RGB" and kind != "TIFF":
        image.save(turned := io.BytesIO(), kind, exif=exif.tobytes(), **options)
        assert reading_bytes(turned, ImageTransform((160, 160))) == 160 * 160 * (each + 4)


def test_memory_runs_out_while_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.core, "new", fail)
    assert refusal(flat_jpeg(64, 64), MODEL).endswith(
        "too large to decode in the memory there is; shrink it first"
    )


def test_limits_of_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    (tmp_path / "cgroup").write_text("0::/machine.slice/ours\n")
    monkeypatch.setattr(memory_left, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory_left, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory_left, "_GROUP_ROOT", tmp_path)
    assert memory_left.memory_left() == 8_192_000
    ours = tmp_path / "machine.slice" / "ours"
    ours.mkdir(parents=True)
    for folder, most in ((ours, "max"), (ours.parent, "5000000")):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text("3000000\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 400000\nactive_file 100000\n")
    assert memory_left.memory_left() == 2_500_000
    (tmp_path / "cgroup").write_text(
        "4:memory:/docker/0123\n3:cpuset:/\n"
    )  # seen from inside: only its root is there
    group = tmp_path / "memory"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text("4000000\n")
    (group / "memory.usage_in_bytes").write_text("5000000\n")
    (group / "memory.stat").write_text("total_inactive_file 300000\ntotal_active_file 0\n")
    assert memory_left.memory_left() == 0
    for name in ("meminfo", "cgroup"):
        (tmp_path / name).unlink()
    assert memory_left.memory_left() is None


# Folders of photos


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return sorted(write_photos(tmp_path / "photos").rglob("*.png"))[:4]


def test_large_files_are_not_taken_into_memory(tiny: Backbone, paths: list[Path], tmp_path: Path) -> None:
    encode_photos(tiny, paths)
    clip, motion = tmp_path / "clip.mp4", tmp_path / "motion.jpg"
    clip.write_bytes(VIDEO)
    motion.write_bytes(flat_jpeg(640, 480) + VIDEO)
    os.truncate(clip, 1_500_000_000)
    os.truncate(motion, 300_000_000)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    encoded = encode_photos(tiny, [paths[0], clip, motion])
    assert encoded.failures == {1: "is not an image"}
    assert peak_growth(before) < 50_000_000
    assert time.process_time() - begin < 5


def test_running_out_of_memory_costs_the_photo_not_the_job(
    tiny: Backbone, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = features.to_pixels, []

    def fail_once(image: Image.Image, transform: ImageTransform) -> np.ndarray:
        calls.append(image)
        if len(calls) == 1:
            raise MemoryError
        return plain(image, transform)

    monkeypatch.setattr(features, "to_pixels", fail_once)
    encoded = encode_photos(tiny, paths)
    assert list(encoded.failures.values()) == ["too large to decode in the memory there is; shrink it first"]
    assert np.count_nonzero(encoded.features.any(axis=(1, 2))) == 3


@pytest.mark.parametrize(("large", "most"), [(0, 1), (1 << 40, 2)])
def test_large_photos_take_turns(
    tiny: Backbone, paths: list[Path], monkeypatch: pytest.MonkeyPatch, large: int, most: int
) -> None:
    together, highest, both = [], [], threading.Barrier(2)

    def watched(source: object, transform: ImageTransform) -> Image.Image:
        together.append(1)
        if most == 2:
            both.wait(timeout=PATIENCE)
        else:
            time.sleep(0.05)
        highest.append(len(together))
        image = read_image(source, transform)  # type: ignore[arg-type]
        together.pop()
        return image

    monkeypatch.setattr(features, "read_image", watched)
    monkeypatch.setattr(decode_cost, "LARGE_BYTES", large)
    assert encode_photos(tiny, paths).failures == {}
    assert max(highest) == most


def test_photos_keep_within_the_users_limit(tiny: Backbone, paths: list[Path], tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000)).save(tmp_path / "large.png", compress_level=1)
    encoded = encode_photos(tiny, [*paths, tmp_path / "large.png"], max_memory=1)
    assert set(encoded.failures) == {0, 1, 2, 3, 4}
    assert encoded.failures[4] == (
        "takes 48 MB of memory to decode, but --max-memory leaves only 0 MB; shrink it first, or allow more"
    )
    assert encode_photos(tiny, [tmp_path / "large.png"], max_memory=10**6).failures == {}
    check_photo(None, 1 << 60)
    with pytest.raises(ImageError, match="allow more"):
        check_photo(10.0, 1 << 30)


def test_a_photo_that_is_being_written_is_left_out(
    tiny: Backbone, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_to(source: object, transform: ImageTransform) -> Image.Image:
        image = read_image(source, transform)  # type: ignore[arg-type]
        if Path(source.name) == paths[1]:  # type: ignore[attr-defined]
            with paths[1].open("ab") as file:
                file.write(b"more")
        return image

    monkeypatch.setattr(features, "read_image", written_to)
    assert encode_photos(tiny, paths).failures == {1: "was written to while it was read"}
