"""The interface, row by row: `application` answers by this table, and `openapi` makes the document of it."""

from __future__ import annotations

from typing import Any

from qprompt_edge.server import (
    api_health,
    api_jobs,
    api_live,
    api_photos,
    api_review,
    api_tasks,
    api_versions,
)
from qprompt_edge.server.calls import Raw, Route
from qprompt_edge.server.limits import PHOTO_BYTES, PHOTOS, PROMPT_BYTES, ZIP_BYTES
from qprompt_edge.server.schemas import (
    REAL,
    TEXT,
    TRUTH,
    WHOLE,
    Schema,
    answer,
    listed,
    maybe,
    number,
    record,
    text,
)
from qprompt_edge.server.thumbnail_cache import SIZES

_T = "/api/tasks/{task}"
_NAME, _LABEL = text(60), text(200)
_IDS = listed(text(1_000), PHOTOS)
_PHOTO = answer(**{"id": TEXT, "class": TEXT, "name": TEXT, "bytes": WHOLE, "modified": REAL})
_STARTED = answer(job=TEXT)
_UNDONE = answer(undone=TEXT)
_JOB = answer(
    id=TEXT, task=TEXT, kind=TEXT, state=TEXT, stage=maybe(TEXT), done=WHOLE, total=WHOLE,
    seconds_left=maybe(REAL), error=maybe(TEXT), notes=listed(TEXT),
)  # fmt: skip
_VERSION = answer(
    n=WHOLE, created=maybe(TEXT), bytes=maybe(WHOLE), classes=listed(TEXT), photos=maybe(WHOLE), published=TRUTH,
    helped=maybe(TRUTH), verdict=maybe(TEXT), kind=maybe(TEXT), backbone=maybe(TEXT), method=maybe(TEXT),
)  # fmt: skip
_TASK = answer(name=TEXT, classes=WHOLE, photos=WHOLE, published=maybe(WHOLE), review=WHOLE, job=maybe(TEXT))
_ADDED = answer(
    added=listed(_PHOTO), skipped=listed(answer(name=TEXT, reason=TEXT)), repeated=WHOLE
)  # fmt: skip
_ANSWER = answer(
    predictions=listed(answer(label=TEXT, probability=REAL)), none_of_these=maybe(TRUTH), seconds=REAL
)
_FINDINGS = answer(changed=TRUTH, photos=WHOLE, classes={"type": "object"})
_OPTIONS = record(
    {
        "method": {"type": "string", "enum": ["qtaskres", "qcoop", "qmaple", "qmaple-coupled"]},
        "bits": {"type": "number", "enum": [1, 1.6, 2, 3, 4, 8, 32]},
        "holdout": number(0, 0.9),
        "shots": number(1, 100_000, "integer"),
        "views": number(0, 100, "integer"),
        "accept": number(0.8, 0.99),
        "epochs": number(1, 100_000, "integer"),
        "seed": number(0, 2**31 - 1, "integer"),
    },
    required=(),
)
_IMAGES = ("image/jpeg", "image/png", "image/webp", "image/heic", "image/avif", "application/octet-stream")
_EVENTS = "text/event-stream"

PARTS: dict[str, Schema] = {
    "task": _NAME, "label": _LABEL, "photo": TEXT, "job": TEXT, "frame": TEXT, "n": number(1, 10**9, "integer"),
}  # fmt: skip
"""What stands in braces in paths."""

_SIZE: Schema = {"type": "integer", "enum": list(SIZES)}
_PAGE: dict[str, Any] = {
    "class": _LABEL, "offset": number(0, 10**9, "integer"), "limit": number(1, 1_000, "integer"),
}  # fmt: skip

ROUTES: tuple[Route, ...] = (
    Route("GET", "/healthz", api_tasks.health, "Whether the server answers; needs no token"),
    Route("GET", "/metrics", api_health.metrics, "How the prompts fare, as text for Prometheus", answer="text/plain"),
    Route("POST", "/api/login", api_tasks.login, "Exchange the token for a cookie", record({"token": text(500)})),
    Route("GET", "/api/status", api_tasks.status, "Version, backbone, limits", answer=answer(version=TEXT, backbone=TEXT)),
    Route("GET", "/api/tasks", api_tasks.tasks, "All tasks", answer=answer(tasks=listed(_TASK))),
    Route("POST", "/api/tasks", api_tasks.make, "Make a task", record({"name": _NAME}), status=201, answer=answer(name=TEXT), errors=(409,)),
    Route("POST", "/api/undo", api_tasks.undo_tasks, "Undo the last renaming or deleting of a task", answer=_UNDONE, errors=(409,)),
    Route("GET", _T, api_tasks.task, "A task with its classes", answer=answer(name=TEXT, classes=listed(answer(label=TEXT, photos=WHOLE)), published=maybe(WHOLE), versions=WHOLE, changed=TRUTH, checked=TRUTH, review=WHOLE, job=maybe(TEXT), undo=maybe(TEXT))),
    Route("PATCH", _T, api_tasks.rename, "Rename a task", record({"name": _NAME}), answer=answer(name=TEXT), errors=(409,)),
    Route("DELETE", _T, api_tasks.delete, "Delete a task; POST /api/undo brings it back", errors=(409,)),
    Route("POST", f"{_T}/undo", api_tasks.undo, "Undo the last change of classes or photos", answer=_UNDONE, errors=(409,)),
    Route("POST", f"{_T}/classes", api_tasks.new_class, "Make a class", record({"label": _LABEL}), status=201, answer=answer(label=TEXT), errors=(409,)),
    Route("PATCH", f"{_T}/classes/{{label}}", api_tasks.relabel, "Rename a class", record({"label": _LABEL}), answer=answer(label=TEXT), errors=(409,)),
    Route("DELETE", f"{_T}/classes/{{label}}", api_tasks.remove_class, "Delete a class with its photos"),
    Route("POST", f"{_T}/classes/{{label}}/photos", api_photos.upload, "Add a photo, or a zip archive of photos; with the label - its folders are the classes", Raw((*_IMAGES, "application/zip"), ZIP_BYTES), status=201, answer=_ADDED, errors=(409,)),
    Route("GET", f"{_T}/photos", api_photos.listing, "Photos by class, in each the newest first", query=_PAGE, answer=answer(total=WHOLE, photos=listed(_PHOTO))),
    Route("POST", f"{_T}/photos/move", api_photos.move, "Move photos to a class", record({"ids": _IDS, "class": _LABEL}), answer=answer(moved=listed(answer(id=TEXT))), errors=(409,)),
    Route("POST", f"{_T}/photos/delete", api_photos.delete, "Delete photos", record({"ids": _IDS}), answer=answer(deleted=WHOLE)),
    Route("GET", f"{_T}/photos/{{photo}}/thumb", api_photos.thumbnail, "A small picture of a photo", query={"size": _SIZE}, answer="image/jpeg", errors=(415,)),
    Route("GET", f"{_T}/photos/{{photo}}/file", api_photos.large, "A photo, upright, at most 1600 pixels", answer="image/jpeg", errors=(415,)),
    Route("POST", f"{_T}/adapt", api_versions.adapt, "Adapt to the photos, or go on with what was stopped", record({"options": _OPTIONS}, required=()), status=202, answer=_STARTED, errors=(409, 429)),
    Route("POST", f"{_T}/update", api_versions.update, "Teach the prompt in use what is new", status=202, answer=_STARTED, errors=(409, 429)),
    Route("POST", f"{_T}/check", api_versions.check, "Look for what is wrong with the photos", status=202, answer=_STARTED, errors=(409, 429)),
    Route("GET", f"{_T}/check", api_versions.findings, "What the last check found", answer=_FINDINGS),
    Route("GET", "/api/jobs/{job}", api_jobs.job, "How far a job is", answer=_JOB),
    Route("GET", "/api/jobs/{job}/events", api_jobs.events, "The same as events, until it ends", answer=_EVENTS),
    Route("DELETE", "/api/jobs/{job}", api_jobs.cancel, "Cancel a job", answer=_JOB),
    Route("GET", f"{_T}/versions", api_versions.versions, "All versions of the prompt, the newest last", answer=listed(_VERSION)),
    Route("POST", f"{_T}/versions", api_versions.add_version, "Take a prompt file as a new version", Raw(("application/octet-stream",), PROMPT_BYTES), status=201, answer=answer(n=WHOLE)),
    Route("GET", f"{_T}/versions/compare", api_versions.compare, "All versions on the photos that none of them was tuned on", answer=answer(photos=WHOLE, versions=listed(answer(n=WHOLE, top1=maybe(REAL)))), errors=(409,)),
    Route("GET", f"{_T}/versions/{{n}}", api_versions.version, "All that is known of a version", answer=_VERSION),
    Route("GET", f"{_T}/versions/{{n}}/file", api_versions.version_file, "A version's prompt file", answer="application/octet-stream"),
    Route("GET", f"{_T}/versions/{{n}}/report", api_versions.version_report, "A version's report, a page of its own", answer="text/html"),
    Route("POST", f"{_T}/versions/{{n}}/publish", api_versions.publish, "Publish a version, or restore an older one", answer=answer(published=WHOLE)),
    Route("POST", f"{_T}/predict", api_versions.predict, "What a photo shows", Raw(_IMAGES, PHOTO_BYTES), query={"accept": number(0.8, 0.99)}, answer=_ANSWER, errors=(409,)),
    Route("GET", f"{_T}/live", api_live.live, "Answers on a camera of the device, as events", query={"source": text(500), "accept": number(0.8, 0.99)}, answer=_EVENTS, errors=(409,)),
    Route("GET", f"{_T}/live/frame", api_live.frame, "The frame of the last answer", query={"source": text(500)}, answer="image/jpeg"),
    Route("GET", f"{_T}/review", api_review.listing, "Frames that watch was unsure of, the one worth most first", query={"limit": number(1, 1_000, "integer")}, answer=answer(total=WHOLE, items=listed(answer(id=TEXT))), errors=(409,)),
    Route("GET", f"{_T}/review/{{frame}}/thumb", api_review.thumbnail, "A small picture of a frame", query={"size": _SIZE}, answer="image/jpeg", errors=(409, 415)),
    Route("GET", f"{_T}/review/{{frame}}/file", api_review.large, "A frame, at most 1600 pixels", answer="image/jpeg", errors=(409, 415)),
    Route("POST", f"{_T}/review/{{frame}}", api_review.decide, "Confirm or correct a frame, or discard it", record({"class": _LABEL, "discard": TRUTH}, required=()), answer=answer(id=maybe(TEXT)), errors=(409,)),
)  # fmt: skip
"""All that the server answers, beside the page's files and the document itself."""
