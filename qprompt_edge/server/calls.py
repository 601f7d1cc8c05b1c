"""From a request to a handler's call, and from what it gives back to an answer.

The idea: a route is a row of a table: what it takes, what it gives, and a plain function. The row checks the
request and writes the OpenAPI document (`openapi`), so the two cannot drift apart; the function runs on a
thread of its own and knows nothing of HTTP. Bodies are received by the event loop, large ones into a file, so
a slow client costs no thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from qprompt_edge.server.guard import refused
from qprompt_edge.server.limits import CHUNK_SECONDS, JSON_BYTES, SLOWEST_BYTES
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.server.schemas import Schema, check, from_text
from qprompt_edge.server.state import State
from qprompt_runtime.errors import MemoryLimitError, OutputError, QPromptError
from qprompt_runtime.text import printable

_JSON = "application/json"
_OUR_FAULT = (OutputError, MemoryLimitError)


@dataclass(frozen=True)
class Raw:
    """A body of bytes.

    Attributes:
        media: Media types for the document; the content decides what it is.
        limit: Most bytes.
    """

    media: tuple[str, ...]
    limit: int


@dataclass(frozen=True)
class Reply:
    """An answer that is not JSON with 200.

    Attributes:
        body: A JSON value, or bytes of the media type.
        status: Of HTTP.
        media: Media type of bytes.
        headers: More headers, in lower case.
    """

    body: Any
    status: int = 200
    media: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """An answer of server-sent events, each a JSON value; None is a sign of life."""

    events: AsyncIterator[Any]


@dataclass(frozen=True)
class Call:
    """A request that was checked against its route.

    Attributes:
        state: What the server works with.
        path: Parts of the path by name.
        query: Values of the query by name; only those that were given.
        body: The JSON body, or None.
        upload: The file that a raw body was received into, or None; it is removed afterwards if it is still
            there.
        headers: Of the request, in lower case.
        client: The client's address.
    """

    state: State
    path: Mapping[str, Any]
    query: Mapping[str, Any]
    body: Any
    upload: Path | None
    headers: Mapping[str, str]
    client: str


Handler = Callable[[Call], Any]
"""From a call to a JSON value, a `Reply` or a `Stream`; what it refuses it raises."""


@dataclass(frozen=True)
class Route:
    """A row of the table.

    Attributes:
        method: Of HTTP.
        path: With parts in braces.
        handler: What answers.
        summary: One line for the document.
        body: Schema of the JSON body, or a `Raw` one; None takes none.
        query: Schemas by name; all may be left out.
        status: Of success.
        answer: Schema of the JSON answer, or a media type.
        errors: Further statuses of refusals, beside those that every route has.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    body: Schema | Raw | None = None
    query: Mapping[str, Schema] = field(default_factory=dict)
    status: int = 200
    answer: Schema | str = field(default_factory=lambda: {"type": "object"})
    errors: tuple[int, ...] = ()


class Endpoint:
    """All routes of one path, as an ASGI application.

    Args:
        state: What the server works with.
        routes: One for each method.
        parts: Schemas of the parts of the path.
    """

    def __init__(self, state: State, routes: list[Route], parts: Mapping[str, Schema]) -> None:
        self._state, self._parts = state, parts
        self._routes = {route.method: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            response = await self._answer(Request(scope, receive))
        except Refusal as refusal:
            response = refused(refusal)
        except QPromptError as error:
            status = 503 if isinstance(error, _OUR_FAULT) else 422
            response = refused(Refusal(status, printable(str(error))))
        except ClientDisconnect:
            return
        except FileNotFoundError:  # deleted by somebody else, meanwhile
            response = refused(Refusal(404, "it is no longer there"))
        except OSError as error:  # a full or failing disk, a folder that is not ours
            reason = printable(error.strerror or str(error))
            print(f"error: {printable(_request_line(scope))}: {reason}", file=sys.stderr)  # noqa: T201 -- the log
            response = refused(Refusal(503, f"the system refuses: {reason}"))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get(method)
        if route is None:
            allowed = ", ".join(sorted(self._routes))
            return JSONResponse(
                {"error": f"{printable(request.method)[:20]} is not answered here; expected {allowed}"},
                405,
                {"allow": allowed},
            )
        upload: Path | None = None
        try:
            path = {name: self._part(name, given) for name, given in request.path_params.items()}
            query = _query(request.query_params, route.query)
            body = None
            if isinstance(route.body, Raw):
                upload = await _received(request, self._state.store.incoming, route.body.limit, self._state)
            elif route.body is not None:
                body = await _json(request)
                check(body, route.body)
            client = request.client.host if request.client else ""
            headers = dict(request.headers)
            call = Call(self._state, path, query, body, upload, headers, client)
            return _response(await run_in_threadpool(route.handler, call), route)
        finally:
            if upload is not None:
                with suppress(OSError):
                    upload.unlink()

    def _part(self, name: str, given: str) -> Any:
        """A part of the path; what cannot be one names nothing that there is."""
        try:
            return from_text(given, self._parts[name], name)
        except Refusal as refusal:
            raise Refusal(404, str(refusal)) from None


def _request_line(scope: Scope) -> str:
    """Method and path of a request, for the log."""
    return f"{scope['method']} {scope['path']}"[:200]


def _query(given: QueryParams, schemas: Mapping[str, Schema]) -> dict[str, Any]:
    return {name: from_text(given[name], schema, name) for name, schema in schemas.items() if name in given}


def _response(found: Any, route: Route) -> Response:
    if isinstance(found, Stream):
        return StreamingResponse(_events(found.events), media_type="text/event-stream")
    if not isinstance(found, Reply):
        return JSONResponse(found, route.status)
    headers = dict(found.headers)
    if found.media is not None or found.status == 304:
        return Response(found.body, found.status, headers, found.media)
    return JSONResponse(found.body, found.status, headers)


async def _events(events: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for event in events:
        yield b": \n\n" if event is None else b"data: " + json.dumps(event).encode() + b"\n\n"


async def _json(request: Request) -> Any:
    """The JSON body."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != _JSON:
        raise Refusal(415, f"expected Content-Type {_JSON}, got {printable(media)[:80] or 'none'}")
    data = b"".join([block async for block in _blocks(request, JSON_BYTES)])
    try:
        return json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is no JSON: {printable(str(error))[:120]}") from None


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


async def _received(request: Request, folder: Path, limit: int, state: State) -> Path:
    """The body as a file, which is complete and on the disk."""
    state.store.check_room(min(limit, _announced(request) or 0))
    handle, name = tempfile.mkstemp(dir=folder)
    path, size = Path(name), 0
    try:
        with os.fdopen(handle, "wb") as file:
            async for block in _blocks(request, limit):
                await run_in_threadpool(file.write, block)
                size += len(block)
            await run_in_threadpool(_sync, file)
        if size == 0:
            raise Refusal(400, "the body is empty; send the file's bytes")
    except BaseException:
        path.unlink()
        raise
    path.chmod(0o644)
    return path


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


async def _blocks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body block by block; a body that is too large or too slow is refused."""
    too_large = Refusal(413, f"the body is larger than {limit} bytes")
    announced = _announced(request)
    if announced is not None and announced > limit:
        raise too_large
    begin, size = time.monotonic(), 0
    stream = request.stream().__aiter__()
    while True:
        try:
            block = await asyncio.wait_for(stream.__anext__(), CHUNK_SECONDS)
        except StopAsyncIteration:
            return
        except (asyncio.TimeoutError, TimeoutError):
            raise Refusal(408, f"nothing came for {CHUNK_SECONDS:.0f} seconds") from None
        size += len(block)
        if size > limit:
            raise too_large
        spent = time.monotonic() - begin
        if spent > CHUNK_SECONDS and size < SLOWEST_BYTES * spent:
            raise Refusal(408, f"the body comes slower than {SLOWEST_BYTES} bytes a second")
        if block:
            yield block


def _announced(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None
