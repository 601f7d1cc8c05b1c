"""The interface to the review queue: frames of `watch`, confirmed or corrected, become photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qprompt_edge.server.api_photos import picture
from qprompt_edge.server.calls import Call, Reply
from qprompt_edge.server.limits import PHOTOS
from qprompt_edge.server.photos import class_folder_name, counts, free_name, photos_of
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.thumbnail_cache import LARGE, SIZES
from qprompt_edge.watching.review import frame_ids, frame_path
from qprompt_runtime.errors import ImageError
from qprompt_runtime.text import printable

_PAGE = 50


def listing(call: Call) -> dict[str, Any]:
    """Frames to label, the one worth most first."""
    store, task = call.state.store, call.path["task"]
    folder, limit = store.task(task), call.query.get("limit", _PAGE)
    queue = _queue(call, task)
    if not frame_ids(queue):
        return {"total": 0, "items": []}
    photos = [str(folder / photo.id) for photo in photos_of(folder)]
    order = {"queue": str(queue), "photos": photos, "counts": counts(folder), "limit": limit}
    found: dict[str, Any] = call.state.engine.ask("review", order)
    return found


def thumbnail(call: Call) -> Reply:
    """A small picture of a frame."""
    return picture(call, _frame(call), call.query.get("size", SIZES[-1]))


def large(call: Call) -> Reply:
    """A frame, as large as a screen."""
    return picture(call, _frame(call), LARGE)


def decide(call: Call) -> dict[str, Any]:
    """Confirm or correct a frame, which makes it a photo of a class; or discard it."""
    task, frame = call.path["task"], call.path["frame"]
    label = call.body.get("class")
    if (label is None) == (not call.body.get("discard", False)):
        raise Refusal(422, "expected either class or discard")
    with call.state.store.locked(task) as folder:
        path = _frame(call)
        journal = call.state.store.journal(task)
        description = f"//{frame}.json"
        if label is None:
            journal.do(
                "frame discarded",
                lambda trash: [
                    (description, f"{trash}/{frame}.json"),
                    (f"//{frame}.jpg", f"{trash}/{frame}.jpg"),
                ],
            )
            return {"id": None}
        if sum(counts(folder).values()) >= PHOTOS:
            raise Refusal(409, f"a task has at most {PHOTOS} photos; delete some first")
        try:
            call.state.thumbnails.prove(path)
        except ImageError as error:
            raise Refusal(415, f"the frame {error.reason}; discard it") from error
        target = class_folder_name(folder, label)
        photo = f"{target}/{free_name(folder / target, path.name, set())}"
        journal.do(
            f"frame labelled {printable(label)}",
            lambda trash: [(description, f"{trash}/{frame}.json"), (f"//{frame}.jpg", photo)],
            (target,),
        )
    return {"id": photo}


def _queue(call: Call, task: str) -> Path:
    """A task's queue."""
    call.state.store.task(task)
    return call.state.store.review(task)


def _frame(call: Call) -> Path:
    frame = call.path["frame"]
    path = frame_path(_queue(call, call.path["task"]), frame)
    if path is None:
        raise Refusal(
            404, f"there is no frame {printable(frame)[:80]!r}; it may have been labelled elsewhere"
        )
    return path
