"""Small pictures of photos, for pages: upright, within the limits that all decoding has."""

from __future__ import annotations

import io

from PIL import Image

from qprompt_edge.memory import check_photo
from qprompt_runtime.decode import Source, decode, decoding_bytes, image_errors
from qprompt_runtime.photo_sources import name_of

_QUALITY = 78
_MARGIN = 2.0  # pillow's first, coarse reduction leaves this many times the size


def thumbnail(source: Source, side: int, max_memory: float | None = None) -> bytes:
    """A photo as a small JPEG.

    Args:
        source: As `decode` takes it.
        side: The longer side in pixels, at least 1; a smaller photo keeps its size.
        max_memory: Limit on the resident memory of the process, in MB of 10^6 bytes; None: no limit.

    Raises:
        ImageError: The photo cannot be read, or takes too much memory; one line that begins with the path.
    """

    def fitted(height: int, width: int) -> tuple[int, int]:
        longest = max(height, width, side)
        return max(1, round(height * side / longest)), max(1, round(width * side / longest))

    with image_errors(name_of(source)):
        check_photo(max_memory, decoding_bytes(source, fitted))
    image = decode(source, fitted)
    with image_errors(name_of(source)):
        height, width = fitted(image.height, image.width)
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=_MARGIN)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def data_uri(jpeg: bytes) -> str:
    """A JPEG as an address that holds the picture itself."""
    import base64

    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
