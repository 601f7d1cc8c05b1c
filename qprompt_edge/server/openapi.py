"""The OpenAPI document (version 3.1), made from the table that requests are answered by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from qprompt_edge.server.calls import Raw, Route
from qprompt_edge.server.schemas import Schema

_ERROR: Schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_ALWAYS = (401, 403, 405, 422, 500, 503)
_REASONS = {
    400: "The request is not understood", 401: "A token is needed, or it is wrong", 403: "The host or origin may not ask this",
    404: "There is no such thing", 405: "This method is not answered here", 408: "The body came too slowly",
    409: "It contradicts what there is", 413: "The body is too large", 415: "The content is of another type",
    422: "A value is not as expected", 429: "Too many requests", 500: "A defect of the server",
    503: "The server cannot do it now",
}  # fmt: skip
_BINARY: Schema = {"type": "string", "format": "binary"}


def document(routes: Iterable[Route], parts: dict[str, Schema]) -> dict[str, Any]:
    """The document.

    Args:
        routes: All rows of the table.
        parts: Schemas of what stands in braces in paths.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, parts)
    return {
        "openapi": "3.1.0",
        "info": {"title": "qprompt-edge serve", "version": version("qprompt-edge")},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
        "security": [{"token": []}, {}],
    }


def _operation(route: Route, parts: dict[str, Schema]) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", route.path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": parts[name]} for name in names]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in route.query.items()]
    statuses = {*_ALWAYS, *route.errors, *([404] if names else []), *_body_errors(route)}
    if route.path == "/api/login":
        statuses.add(429)
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()} {route.path.removeprefix('/api')}").strip(
            "_"
        ),
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            str(route.status): _answer(route),
            **{str(it): _refusal(it) for it in sorted(statuses)},
        },
    }
    if isinstance(route.body, Raw):
        found["requestBody"] = {
            "required": True,
            "content": {media: {"schema": _BINARY} for media in route.body.media},
        }
    elif route.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.body}}}
    return found


def _body_errors(route: Route) -> tuple[int, ...]:
    return () if route.body is None else (400, 408, 413, 415)


def _answer(route: Route) -> dict[str, Any]:
    media, schema = (
        ("application/json", route.answer) if isinstance(route.answer, dict) else (route.answer, _BINARY)
    )
    return {"description": route.summary, "content": {media: {"schema": schema}}}


def _refusal(status: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": _REASONS[status], "content": content}
