"""The ASGI application: the page's files, the interface, and its document, behind the guard."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route as Path
from starlette.types import ASGIApp

from qprompt_edge.reporting.theme import piece_styles
from qprompt_edge.server.api_tasks import session_cookie
from qprompt_edge.server.calls import Call, Endpoint, Reply, Route
from qprompt_edge.server.guard import Guard
from qprompt_edge.server.openapi import document
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.schemas import text
from qprompt_edge.server.state import State
from qprompt_edge.server.table import PARTS, ROUTES

_TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
}  # fmt: skip
_PAGE = "index.html"


def application(state: State, names: Iterable[str]) -> ASGIApp:
    """The application.

    Args:
        state: What the server works with.
        names: Host names that are allowed beside addresses.
    """
    files = _assets()
    own = (
        Route("GET", "/", lambda call: _page(call, files), "The page", query={"token": text(500)}),
        Route("GET", "/openapi.json", lambda _call: document(ROUTES, PARTS), "This document"),
        Route("GET", "/favicon.ico", lambda call: _asset(call, files, "icon.svg"), "The page's icon"),
        Route(
            "GET", "/static/{file}", lambda call: _asset(call, files, call.path["file"]), "A file of the page"
        ),
    )
    rows: dict[str, list[Route]] = {}
    for route in (*own, *ROUTES):
        rows.setdefault(route.path, []).append(route)
    parts = {**PARTS, "file": text(200)}
    paths = [Path(_pattern(path), Endpoint(state, found, parts)) for path, found in rows.items()]
    handlers: dict[Any, Any] = {404: _nothing, 500: _defect}
    app = Starlette(routes=paths, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Guard(app, state.access, names, state.cookie)


def _pattern(path: str) -> str:
    """A path as Starlette matches it: a photo's id has slashes of its own."""
    return path.replace("{photo}", "{photo:path}")


def _nothing(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"error": "there is nothing here; see /openapi.json"}, 404)


def _defect(_request: Request, _error: Exception) -> JSONResponse:
    """What is said of a defect of ours; the guard writes its trace to the log."""
    return JSONResponse({"error": "an internal error; the server's log says more"}, 500)


def _assets() -> dict[str, tuple[bytes, str, str]]:
    """The page's files by name: content, media type, and a tag that changes with the content."""
    static = importlib.resources.files("qprompt_edge.server").joinpath("static")
    files = {file.name: file.read_bytes() for file in static.iterdir() if file.is_file()}
    files["pieces.css"] = piece_styles().encode()
    found = {}
    for name, data in files.items():
        media = _TYPES.get("." + name.rpartition(".")[2])
        if media is not None:
            found[name] = data, media, f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return found


def _asset(call: Call, files: dict[str, tuple[bytes, str, str]], name: str) -> Reply:
    if name not in files:
        raise Refusal(404, "there is no such file")
    data, media, tag = files[name]
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in call.headers.get("if-none-match", ""):
        return Reply(None, 304, headers=headers)
    return Reply(data, media=media, headers=headers)


def _page(call: Call, files: dict[str, tuple[bytes, str, str]]) -> Reply:
    """The page; a link with a token becomes a cookie at once, and the token leaves the address bar."""
    if "token" in call.query:
        cookie = session_cookie(call, call.query["token"])
        return Reply(b"", 303, "text/plain", {**cookie, "location": "/"})
    return _asset(call, files, _PAGE)
