"""The interface to photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qprompt_edge.server.calls import Call, Reply
from qprompt_edge.server.photos import Photo, delete_photos, move_photos, photo_path, photos_of
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.thumbnail_cache import LARGE, SIZES
from qprompt_edge.server.uploads import take_upload
from qprompt_runtime.errors import ImageError

_PAGE = 200


def listing(call: Call) -> dict[str, Any]:
    """Photos of a task or a class, a part of them at a time."""
    found = photos_of(call.state.store.task(call.path["task"]), call.query.get("class"))
    offset, limit = call.query.get("offset", 0), call.query.get("limit", _PAGE)
    return {"total": len(found), "photos": [photo.to_json() for photo in found[offset : offset + limit]]}


def upload(call: Call) -> dict[str, Any]:
    """Take a photo or an archive."""
    assert call.upload is not None
    state, task = call.state, call.path["task"]
    state.store.task(task)
    added = take_upload(state.store, state.thumbnails, task, call.path["label"], call.upload)
    folder = state.store.task(task)
    return {
        "added": [photo.to_json() for photo in (_photo(folder, it) for it in added.ids) if photo is not None],
        "skipped": [{"name": name, "reason": reason} for name, reason in added.skipped],
        "repeated": added.repeated,
    }


def _photo(folder: Path, photo: str) -> Photo | None:
    """A photo that was just added; None if somebody has moved it since."""
    try:
        status = (folder / photo).stat()
    except OSError:
        return None
    return Photo(photo, photo.partition("/")[0], status.st_size, status.st_mtime)


def move(call: Call) -> dict[str, Any]:
    """Move photos to a class."""
    task = call.path["task"]
    with call.state.store.locked(task) as folder:
        moves = move_photos(folder, call.state.store.journal(task), call.body["ids"], call.body["class"])
    return {"moved": [{"from": source, "id": target} for source, target in moves]}


def delete(call: Call) -> dict[str, Any]:
    """Delete photos."""
    task = call.path["task"]
    with call.state.store.locked(task) as folder:
        return {"deleted": delete_photos(folder, call.state.store.journal(task), call.body["ids"])}


def thumbnail(call: Call) -> Reply:
    """A small picture of a photo."""
    photo = photo_path(call.state.store.task(call.path["task"]), call.path["photo"])
    return picture(call, photo, call.query.get("size", SIZES[0]))


def large(call: Call) -> Reply:
    """The photo upright, as large as a screen."""
    photo = photo_path(call.state.store.task(call.path["task"]), call.path["photo"])
    return picture(call, photo, LARGE)


def picture(call: Call, photo: Path, size: int) -> Reply:
    """A file as JPEG of at most some size; a browser that has it is told so.

    Raises:
        Refusal: It is gone, or no photo.
    """
    thumbnails = call.state.thumbnails
    try:
        tag = f'"{thumbnails.tag(photo, size)}"'
        headers = {"etag": tag, "cache-control": "private, no-cache"}
        if tag in call.headers.get("if-none-match", ""):
            return Reply(None, 304, headers=headers)
        data = thumbnails.get(photo, size) if size in SIZES else thumbnails.picture(photo, size)
    except OSError as error:
        raise Refusal(404, "there is no such photo any more") from error
    except ImageError as error:
        raise Refusal(415, error.reason) from error
    return Reply(data, media="image/jpeg", headers=headers)
