"""What a client, a request and a task may take: above what people need, within what a small device has."""

from __future__ import annotations

MB = 2**20

PHOTO_BYTES = 64 * MB
ZIP_BYTES = 1024 * MB
ZIP_MEMBERS = 10_000
ZIP_UNPACKED_BYTES = 4 * ZIP_BYTES
JSON_BYTES = MB
PROMPT_BYTES = 16 * MB

TASKS = 200
CLASSES = 1_000
PHOTOS = 50_000
VERSIONS = 200
"""Versions of a task that are kept: beyond, the oldest one that is not published goes."""

FREE_BYTES = 256 * MB
"""An upload is refused where the disk would be left with less."""
TRASH_BYTES, TRASH_FILES = 1024 * MB, 20_000
UNDO_STEPS = 100
THUMBNAIL_BYTES = 512 * MB

LOGIN_TRIES, LOGIN_SECONDS = 10, 60.0
"""Wrong tokens from one address in so many seconds; then it has to wait."""
SESSIONS, SESSION_DAYS = 100, 30

CONNECTIONS = 1_000
STREAMS = 100
WAITING_JOBS = 20
HEAD_SECONDS = 10.0
"""A request's head has to be there after so long."""
CHUNK_SECONDS = 20.0
"""A body may pause for so long."""
SLOWEST_BYTES = 2_000
"""Bytes a second that a body must bring on average, after the first `CHUNK_SECONDS`."""
SEND_SECONDS = 60.0
"""A reader may keep an answer waiting for so long."""
END_SECONDS = 1.0
"""What is under way at the end has so long."""
