"""Where frames come from as bytes: JPEG streams, raw pixels, stdin, devices that block, http and rtsp."""

import base64
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from patience import PATIENCE
from PIL import Image
from rtsp_camera import rtsp_camera
from watching import BLUE, RED, allow_loopback, picture

from qprompt_edge.watching import camera, jpeg_stream, latest
from qprompt_edge.watching.camera import CameraError
from qprompt_edge.watching.frames import Frame, Frames, SourceLost
from qprompt_edge.watching.jpeg_stream import JpegStream, TooLargeError
from qprompt_edge.watching.latest import latest_source
from qprompt_edge.watching.picamera import picamera_source
from qprompt_edge.watching.sources import find_source
from qprompt_edge.watching.stdin import stdin_source
from qprompt_runtime.errors import ImageError, PhotosError


def jpeg(colour: tuple[int, int, int] = RED, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(sum(colour)).integers(-20, 20, (48, 64, 3))
    Image.fromarray((picture(colour) + noise).astype(np.uint8)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_thumbnail(data: bytes) -> bytes:
    """The JPEG with another one in its EXIF block, as cameras write them."""
    inner = b"Exif\0\0" + jpeg(BLUE, quality=20)
    return data[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + data[2:]


PICTURES = [
    jpeg(),
    jpeg(BLUE, progressive=True),
    with_thumbnail(jpeg()),
    jpeg(quality=30, restart_marker_blocks=2),
    jpeg()[:2] + b"\xff\xff\xff" + jpeg()[2:],  # filling before a marker (ITU T.81, B.1.1.2)
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 1 << 20])
def test_pictures_are_cut_apart_however_they_come(step):
    stream, whole = JpegStream(), b"".join(PICTURES)
    found = [
        data for start in range(0, len(whole), step) for data in stream.feed(whole[start : start + step])
    ]
    assert found == PICTURES


def test_what_lies_between_pictures_is_passed_over():
    header = b"\r\n--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 5\r\n\r\n"
    whole = b"".join(header + data for data in PICTURES) + b"\r\n--frame--"
    assert list(JpegStream().feed(whole)) == PICTURES


def test_after_a_picture_that_is_cut_off_the_next_is_whole():
    for cut in (3, 30, 200, len(PICTURES[0]) - 1):
        found = list(JpegStream().feed(PICTURES[0][:cut] + PICTURES[1] + PICTURES[0] + PICTURES[1]))
        assert found[-2:] == [PICTURES[0], PICTURES[1]]


def test_damage_takes_no_more_than_its_picture():
    rng = np.random.default_rng(3)
    for _ in range(60):
        damaged = bytearray(PICTURES[0])
        for place in rng.integers(0, len(damaged), 5):
            damaged[place] = rng.integers(256)
        found = list(JpegStream().feed(bytes(damaged) + b"".join(PICTURES[:2] * 40)))
        assert found[-2:] == PICTURES[:2]


def test_a_stream_without_an_end_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(jpeg_stream, "MOST_BYTES", 10_000)
    stream = JpegStream()
    assert list(stream.feed(PICTURES[0][:700] + bytes(9000))) == []
    with pytest.raises(TooLargeError):
        list(stream.feed(bytes(1000)))
    assert list(JpegStream().feed(bytes(50_000))) == []  # no picture has begun: nothing is kept


def until_lost(frames: Frames) -> tuple[list[Frame], str]:
    """The frames of a source, and why it was lost."""
    taken = []
    try:
        taken.extend(frame for frame in frames if frame is not None)
    except SourceLost as lost:
        return taken, str(lost)
    pytest.fail("it was not lost")


def next_frame(frames: Frames) -> Frame:
    """The next one of a source, whose thread may be slow to start."""
    return next(frame for frame in frames if frame is not None)


# ---------------------------------------------------------------------- stdin


def piped(data: bytes) -> int:
    """A pipe that holds these bytes and is closed behind them; where to read."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    threading.Thread(target=write, daemon=True).start()
    return reading


def colours(descriptor: int, size: tuple[int, int] | None = None) -> list[str]:
    found = [frame for frame in stdin_source(size, descriptor).frames() if frame]
    os.close(descriptor)
    return ["red" if frame.decode().getpixel((5, 5))[0] > 150 else "blue" for frame in found]


def test_stdin_holds_jpegs_or_raw_pixels():
    assert colours(piped(jpeg(RED) + jpeg(BLUE) + jpeg(RED)[:99])) == ["red", "blue"]
    raw = picture(RED).tobytes() + picture(BLUE).tobytes() + bytes(99)
    assert colours(piped(raw), (64, 48)) == ["red", "blue"]


@pytest.mark.parametrize(("data", "size"), [(b"", None), (b"no picture", None), (bytes(99), (64, 48))])
def test_stdin_without_a_frame_is_an_error(data, size):
    with pytest.raises(ImageError, match=r"^stdin: held no whole frame; expected JPEG files"):
        colours(piped(data), size)


def test_stdin_that_is_a_folder_is_an_error(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(ImageError, match=r"^stdin: cannot be read: Is a directory"):
        colours(descriptor)


def test_the_loop_gets_its_turn_while_nothing_comes():
    reading, writing = os.pipe()
    with closing(stdin_source(None, reading).frames()) as found:
        assert next(found) is None
        os.write(writing, jpeg())
        assert next_frame(found).decode().size == (64, 48)
    os.close(reading)
    os.close(writing)


# ---------------------------------------------------------------------- devices that block


def test_only_the_newest_frame_is_taken():
    begun, shown, taken = threading.Event(), threading.Event(), threading.Event()

    def read() -> Iterator[Frame]:
        yield Frame(picture(RED), "first")
        begun.wait(PATIENCE)
        for number in range(5):
            yield Frame(picture(RED), f"{number}")
        shown.set()
        taken.wait(PATIENCE)
        yield Frame(picture(RED), "last")

    with closing(latest_source("camera", read).frames()) as found:
        assert next_frame(found).source == "first"
        begun.set()
        assert shown.wait(PATIENCE)
        assert next_frame(found).source == "4"
        taken.set()
        rest, reason = until_lost(found)
    assert [frame.source for frame in rest] == ["last"]
    assert reason == "camera: it has ended"


def test_what_reading_raises_is_raised_in_the_loop():
    def read() -> Iterator[Frame]:
        raise SourceLost("camera: unplugged")
        yield

    with pytest.raises(SourceLost, match="camera: unplugged"):
        list(latest_source("camera", read).frames())


def test_a_device_that_hangs_is_lost_and_is_not_opened_twice(monkeypatch):
    monkeypatch.setattr(latest, "_CLOSING_SECONDS", 0.01)
    opened, released = [], threading.Event()

    def read() -> Iterator[Frame]:
        opened.append("once more")
        released.wait(PATIENCE)
        yield Frame(picture(RED), "camera")

    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(latest, "time", clock)
    source = latest_source("camera", read, silence=20)
    with closing(source.frames()) as found:
        assert next(found) is None
        clock.now += 21
        with pytest.raises(SourceLost, match="no frame for 20 seconds"):
            next(found)
    with closing(source.frames()) as again:
        assert [next(again), next(again)] == [None, None]
        assert len(opened) == 1
        released.set()
        assert next_frame(again).source == "camera"
        assert len(opened) == 2


def test_a_device_is_closed_when_the_loop_ends(monkeypatch):
    monkeypatch.setattr(latest, "_CLOSING_SECONDS", PATIENCE)
    closed = threading.Event()

    def read() -> Iterator[Frame]:
        try:
            while True:
                yield Frame(picture(RED), "camera")
        finally:
            closed.set()

    found = latest_source("camera", read).frames()
    assert next_frame(found).source == "camera"
    found.close()
    assert closed.is_set()


# ---------------------------------------------------------------------- the Raspberry Pi's camera


class FakePicamera:
    """As much of picamera2 as is used."""

    opened = 0

    def __init__(self, number: int) -> None:
        if number > 0:
            raise IndexError("list index out of range")

    def __enter__(self) -> "FakePicamera":
        return self

    def __exit__(self, *_details: object) -> None:
        type(self).opened += 1

    def create_video_configuration(self, main: dict) -> dict:
        return main

    def configure(self, main: dict) -> None:
        assert main == {"size": (640, 480), "format": "BGR888"}

    def start(self) -> None:
        pass

    def capture_array(self, name: str) -> np.ndarray:
        assert name == "main"
        return picture(RED)


def test_picamera_gives_arrays(monkeypatch):
    module = ModuleType("picamera2")
    module.Picamera2 = FakePicamera
    monkeypatch.setitem(sys.modules, "picamera2", module)
    monkeypatch.setattr(latest, "_CLOSING_SECONDS", PATIENCE)
    found = picamera_source(0, None).frames()
    frame = next_frame(found)
    found.close()
    assert FakePicamera.opened == 1
    assert frame.source == "picamera:0"
    assert frame.decode().getpixel((0, 0)) == RED
    with pytest.raises(SourceLost, match="picamera:1: list index out of range"):
        list(picamera_source(1, None).frames())


# ---------------------------------------------------------------------- http


class Camera(BaseHTTPRequestHandler):
    """A camera's web server: an MJPEG stream, a picture, and what is neither."""

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path} {self.headers.get('Authorization')}")  # type: ignore[attr-defined]
        self.send_response(404 if self.path == "/gone" else 200)
        path = self.path.partition("?")[0]
        kinds = {"/stream": "multipart/x-mixed-replace;boundary=x", "/picture": "image/jpeg"}
        self.send_header("Content-Type", kinds.get(path, "text/html"))
        self.end_headers()
        for colour in (RED, BLUE) if path == "/stream" else (BLUE,):
            self.wfile.write(b"--x\r\nContent-Type: image/jpeg\r\n\r\n" if path == "/stream" else b"")
            self.wfile.write(jpeg(colour))
            self.wfile.flush()
            if path == "/stream":
                self.server.taken.acquire(timeout=PATIENCE)  # type: ignore[attr-defined]  # else only the last is

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    allow_loopback(monkeypatch)
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as made:
        made.asked, made.taken = [], threading.Semaphore(0)  # type: ignore[attr-defined]
        threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
        yield made
        made.shutdown()


def test_an_mjpeg_stream_is_taken_until_it_ends(server):
    source = find_source(
        f"http://me:pass%40word@127.0.0.1:{server.server_port}/stream?key=1", None, None, False
    )
    assert source.name == f"http://127.0.0.1:{server.server_port}/stream"
    with closing(source.frames()) as found:
        taken = []
        for _ in range(2):
            taken.append(next_frame(found))
            server.taken.release()
        rest, reason = until_lost(found)
    assert reason == f"{source.name}: the stream has ended"
    reds = [frame.decode().getpixel((5, 5))[0] > 150 for frame in [*taken, *rest]]
    assert reds == [True, False]
    assert server.asked == [f"/stream?key=1 Basic {base64.b64encode(b'me:pass@word').decode()}"]


def test_a_picture_is_fetched_again_and_again(server):
    source = find_source(f"http://127.0.0.1:{server.server_port}/picture", None, 50.0, False)
    with closing(source.frames()) as found:
        taken = [frame for frame, _ in zip((item for item in found if item), range(3), strict=False)]
    assert [frame.decode().getpixel((5, 5))[2] > 150 for frame in taken] == [True] * 3
    assert len(server.asked) >= 3


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/gone", "Not Found"), ("/page", "is text/html; expected an MJPEG stream or an image")],
)
def test_what_gives_no_picture_is_lost(server, path, reason):
    source = find_source(f"http://127.0.0.1:{server.server_port}{path}", None, None, False)
    with pytest.raises(SourceLost, match=reason):
        list(source.frames())


# ---------------------------------------------------------------------- what a user calls a source


def test_a_source_is_found_by_what_it_is_called(tmp_path):
    assert find_source("-", None, None, False).name == "stdin"
    assert find_source(str(tmp_path), None, None, True).name == str(tmp_path)
    assert find_source("https://cam/x", None, None, False).live
    assert not find_source(str(tmp_path), None, None, False).live


@pytest.mark.parametrize(
    ("text", "size", "once", "reason"),
    [
        ("gone", None, False, "gone: no such folder; expected a folder, a camera"),
        (__file__, None, False, "is not a folder; expected"),
        ("", None, False, "^'': is not a folder; expected"),
        ("-", None, True, "--once is for a folder"),
        ("http://cam/x", None, True, "--once is for a folder"),
        ("/dev/video0", None, True, "--once is for a folder"),
        (".", (1, 1), False, "--size is for cameras"),
        ("http://cam/x", (1, 1), False, "--size is for cameras"),
        ("http://", None, False, "is no address"),
        ("rtsp://cam:port/x", None, False, "is no address"),
        ("ftp://me:secret@cam/x", None, False, "^ftp://cam/x: no such folder; expected"),
    ],
)  # fmt: skip
def test_what_is_no_source_is_refused(text, size, once, reason):
    with pytest.raises(PhotosError, match=reason) as caught:
        find_source(text, size, None, once)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"), [("0", "camera"), ("/dev/video9", "camera"), ("rtsp://cam/x", "camera")]
)
def test_a_camera_without_its_library_names_the_extra(monkeypatch, text, words):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(CameraError, match=r"pip install 'qprompt-edge\[camera\]'"):
        find_source(text, None, None, False)


def test_picamera_without_its_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraError, match="apt install python3-picamera2"):
        find_source("picamera", None, None, False)


# ---------------------------------------------------------------------- what FFmpeg's libraries read


def write_video(path: Path, codec: str) -> Path:
    """Ten frames of red, then ten of blue."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for colour in [RED] * 10 + [BLUE] * 10:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(colour), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.mark.parametrize("codec", ["mjpeg", "mpeg4"])
def test_a_stream_is_decoded_and_its_end_is_a_loss(tmp_path, codec):
    """Both kinds of codec: each picture for itself, and each built on the one before."""
    pytest.importorskip("av")
    source = camera._source(str(write_video(tmp_path / "video.avi", codec)), "camera", None, {})
    taken, reason = until_lost(source.frames())
    assert reason == "camera: it has ended"
    assert taken  # the newest of those that came while the loop was busy
    red, green, blue = taken[-1].decode().getpixel((5, 5))
    assert blue > 150 > max(red, green)


def test_a_camera_that_is_not_there_is_lost(tmp_path):
    pytest.importorskip("av")
    for text in (str(tmp_path / "video9"), "rtsp://me:secret@127.0.0.1:1/x"):
        source = (
            camera.stream_source(text, "camera") if "rtsp" in text else camera.device_source(text, (64, 48))
        )
        taken, reason = until_lost(source.frames())
        assert taken == []
        assert reason.endswith(("No such file or directory", "Connection refused"))
        assert "secret" not in reason


def test_a_damaged_picture_of_a_camera_is_a_frame_that_cannot_be_read():
    pytest.importorskip("av")
    import av

    context, packet = av.CodecContext.create("mjpeg", "r"), av.Packet(b"\xff\xd8no picture")
    frame = Frame(partial(camera._decoded, context.decode, packet, av.error.FFmpegError), "camera")
    with pytest.raises(ImageError, match=r"^camera: damaged or incomplete"):
        frame.decode()


def test_a_network_camera_is_read_over_rtsp_and_lost_when_it_is_unplugged():
    pytest.importorskip("av")
    with rtsp_camera(picture(RED)) as address:
        source = find_source(address, None, None, False)
        found = source.frames()
        frame = next(item for item in found if item is not None)
        assert max(abs(np.subtract(frame.decode().getpixel((5, 5)), RED))) < 5
    assert frame.source == source.name == address.replace("me:secret@", "")
    assert until_lost(found)[1] == f"{source.name}: it has ended"
