"""The interface to tasks and classes."""

from __future__ import annotations

import contextlib
from importlib.metadata import version
from typing import Any

from qprompt_edge.server import limits
from qprompt_edge.server.calls import Call, Reply
from qprompt_edge.server.photos import counts, delete_class, make_class, photos_of, rename_class
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.versions import Versions, findings_file
from qprompt_edge.watching.review import frame_ids


def status(call: Call) -> dict[str, Any]:
    """What a page wants to know first."""
    return {
        "version": version("qprompt-edge"),
        "backbone": call.state.backbone,
        "secure": call.state.secure,
        "token": call.state.access.needed,
        "cameras": list(call.state.cameras),
        "limits": {
            "photo_bytes": limits.PHOTO_BYTES,
            "zip_bytes": limits.ZIP_BYTES,
            "photos": limits.PHOTOS,
            "classes": limits.CLASSES,
        },
    }


def tasks(call: Call) -> dict[str, Any]:
    """All tasks."""
    return {"tasks": [_brief(call, name) for name in call.state.store.tasks()]}


def _brief(call: Call, name: str) -> dict[str, Any]:
    found = counts(call.state.store.task(name))
    return {
        "name": name,
        "classes": len(found),
        "photos": sum(found.values()),
        "published": versions_of(call, name).published(),
        "review": _waiting(call, name),
        "job": call.state.jobs.of(name),
    }


def _waiting(call: Call, task: str) -> int:
    """How many frames wait for review; a link leads to none."""
    with contextlib.suppress(Refusal):
        return len(frame_ids(call.state.store.review(task)))
    return 0


def versions_of(call: Call, task: str) -> Versions:
    """The versions of a task."""
    store = call.state.store
    return Versions(store.task(task), store.prompt(task))


def make(call: Call) -> dict[str, Any]:
    """Make a task."""
    return {"name": call.state.store.make(call.body["name"])}


def task(call: Call) -> dict[str, Any]:
    """One task. Whoever looks at it will soon adapt or try it, so the models' process starts."""
    call.state.engine.warm()
    name = call.path["task"]
    with call.state.store.locked(name) as folder:
        versions = versions_of(call, name)
        return {
            "name": folder.name,
            "classes": [{"label": label, "photos": count} for label, count in counts(folder).items()],
            "published": versions.published(),
            "versions": len(versions.numbers()),
            "review": _waiting(call, name),
            "changed": versions.changed(photos_of(folder)),
            "checked": findings_file(folder).is_file(),
            "job": call.state.jobs.of(folder.name),
            "undo": call.state.store.journal(name).last(),
        }


def rename(call: Call) -> dict[str, Any]:
    """Rename a task."""
    _check_idle(call)
    return {"name": call.state.store.rename(call.path["task"], call.body["name"])}


def delete(call: Call) -> dict[str, Any]:
    """Delete a task."""
    _check_idle(call)
    call.state.store.delete(call.path["task"])
    return {}


def _check_idle(call: Call) -> None:
    job = call.state.jobs.of(call.state.store.task(call.path["task"]).name)
    if job is not None:
        raise Refusal(409, "a job of this task is under way; cancel it first")


def undo_tasks(call: Call) -> dict[str, Any]:
    """Undo the last renaming or deleting of a task."""
    return {"undone": call.state.store.undo()}


def undo(call: Call) -> dict[str, Any]:
    """Undo the last change within a task."""
    name = call.path["task"]
    with call.state.store.locked(name):
        return {"undone": call.state.store.journal(name).undo()}


def new_class(call: Call) -> dict[str, Any]:
    """Make a class."""
    name = call.path["task"]
    with call.state.store.locked(name) as folder:
        return {"label": make_class(folder, call.state.store.journal(name), call.body["label"])}


def relabel(call: Call) -> dict[str, Any]:
    """Rename a class."""
    name = call.path["task"]
    with call.state.store.locked(name) as folder:
        journal = call.state.store.journal(name)
        return {"label": rename_class(folder, journal, call.path["label"], call.body["label"])}


def remove_class(call: Call) -> dict[str, Any]:
    """Delete a class."""
    name = call.path["task"]
    with call.state.store.locked(name) as folder:
        delete_class(folder, call.state.store.journal(name), call.path["label"])
    return {}


def login(call: Call) -> Reply:
    """Exchange a token for a cookie."""
    return Reply({}, headers=session_cookie(call, call.body["token"]))


def session_cookie(call: Call, token: str) -> dict[str, str]:
    """The header that makes a browser keep a session.

    Raises:
        Refusal: The token is wrong.
    """
    if not call.state.access.needed:
        return {}
    session = call.state.access.login(token, call.client)
    seconds = limits.SESSION_DAYS * 86_400
    secure = "; Secure" if call.state.secure else ""
    return {
        "set-cookie": f"{call.state.cookie}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    }


def health(_call: Call) -> dict[str, Any]:
    """Whether the server answers."""
    return {}
