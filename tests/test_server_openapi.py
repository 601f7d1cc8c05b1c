"""The OpenAPI document and the routes are one table; here they are compared with what the server answers."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from serving import Client, served

from qprompt_edge.server.calls import Raw
from qprompt_edge.server.openapi import document
from qprompt_edge.server.schemas import check
from qprompt_edge.server.table import PARTS, ROUTES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("openapi") / "data") as server:
        yield server


def test_the_document_is_served_and_names_every_route(server):
    served_document = server.get("/openapi.json").json
    assert served_document == document(ROUTES, PARTS)
    named = {(method.upper(), path) for path, found in served_document["paths"].items() for method in found}
    assert named == {(route.method, route.path) for route in ROUTES}
    ids = [found["operationId"] for path in served_document["paths"].values() for found in path.values()]
    assert [name for name, count in Counter(ids).items() if count > 1] == []


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_answered_and_says_what_it_takes(server, route):
    names = re.findall(r"\{(\w+)\}", route.path)
    assert set(names) <= set(PARTS)
    path = route.path
    for name in names:
        path = path.replace(f"{{{name}}}", "1" if name == "n" else "none")
    body = b"x" if isinstance(route.body, Raw) else {}
    answer = server.ask(route.method, path, body)
    described = document([route], PARTS)["paths"][route.path][route.method.lower()]
    assert str(answer.status) in described["responses"], answer.body
    assert answer.status != 405
    if answer.status >= 400:
        assert answer.error
    other = server.ask("PUT", path, {})
    assert other.status == 405
    assert route.method in other.headers["allow"]


def test_no_body_has_room_for_what_is_not_said():
    for route in ROUTES:
        if isinstance(route.body, dict):
            assert route.body["additionalProperties"] is False
            assert all("maxLength" in it or "type" in it for it in route.body["properties"].values())


def test_values_are_checked_by_the_schemas_that_are_shown():
    schema = next(route.body for route in ROUTES if route.path.endswith("/move"))
    assert isinstance(schema, dict)
    check({"ids": ["a/b"], "class": "c"}, schema)
    for wrong in (
        {"ids": "a", "class": "c"},
        {"ids": [1], "class": "c"},
        {"ids": [""], "class": "c"},
        {"ids": []},
        {"ids": [], "class": "c", "more": 1},
        [],
        None,
        True,
    ):
        with pytest.raises(Exception, match="expected"):
            check(wrong, schema)
