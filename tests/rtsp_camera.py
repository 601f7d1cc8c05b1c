"""A network camera: an RTSP server (RFC 2326) whose one stream is MJPEG over TCP."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from patience import PATIENCE

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:video\r\n"
_LARGEST = 1 << 16


@contextmanager
def rtsp_camera(shown: np.ndarray) -> Iterator[str]:
    """Serves one client at a time a still picture, uint8 [H,W,3]; leaving it unplugs the camera."""
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(0.1)

        def serve() -> None:
            while not ending.is_set():
                with suppress(OSError):
                    client = door.accept()[0]
                    with client, suppress(OSError):
                        _talk(client, shown, ending)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"rtsp://me:secret@127.0.0.1:{door.getsockname()[1]}/stream1"
        finally:
            ending.set()
            thread.join()


def _talk(client: socket.socket, shown: np.ndarray, ending: threading.Event) -> None:
    """Answer what a client asks until it plays, then send until it goes or the camera is unplugged."""
    client.settimeout(PATIENCE)
    waiting = b""
    while True:
        while b"\r\n\r\n" not in waiting:
            data = client.recv(_LARGEST)
            if not data:
                return
            waiting += data
        head, _, waiting = waiting.partition(b"\r\n\r\n")
        method, number = head.split()[0].decode(), head.lower().split(b"cseq:")[1].split()[0].decode()
        more = {
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n",
            "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
            "PLAY": "Session: 1\r\n",
        }.get(method, "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n")
        body = SDP if method == "DESCRIBE" else ""
        client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}\r\n{body}".encode())
        if method == "PLAY":
            _send(client, shown, ending)
            return


def _send(client: socket.socket, shown: np.ndarray, ending: threading.Event) -> None:
    """The picture ten times a second, each packet of it behind its length (RFC 2326, section 10.12)."""
    import av

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        packets.bind(("127.0.0.1", 0))
        packets.settimeout(0.05)
        address = f"rtp://127.0.0.1:{packets.getsockname()[1]}"
        with av.open(address, "w", format="rtp") as container:
            stream = container.add_stream("mjpeg", rate=10, options={"huffman": "default"})
            stream.width, stream.height, stream.pix_fmt = shown.shape[1], shown.shape[0], "yuvj420p"
            while not ending.wait(0.1):
                for packet in stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")):
                    container.mux(packet)
                with suppress(TimeoutError):
                    while True:
                        data = packets.recv(_LARGEST)
                        client.sendall(b"$\0" + len(data).to_bytes(2, "big") + data)
