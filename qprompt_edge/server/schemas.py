"""The part of JSON Schema that requests need: they are checked by what the OpenAPI document shows."""

from __future__ import annotations

from typing import Any

from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.text import printable

Schema = dict[str, Any]

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
}  # fmt: skip


def text(most: int, **more: Any) -> Schema:
    """A text of 1 to `most` characters."""
    return {"type": "string", "minLength": 1, "maxLength": most, **more}


def number(least: float, most: float, kind: str = "number") -> Schema:
    """A number within bounds."""
    return {"type": kind, "minimum": least, "maximum": most}


def record(properties: dict[str, Schema], required: tuple[str, ...] | None = None) -> Schema:
    """An object with these properties and no others; all are required unless some are named."""
    needed = list(properties if required is None else required)
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": needed} if needed else found


def answer(**properties: Schema) -> Schema:
    """An object in an answer: these properties are there, others may be added later."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def listed(items: Schema, most: int | None = None) -> Schema:
    """An array."""
    return (
        {"type": "array", "items": items}
        if most is None
        else {"type": "array", "items": items, "maxItems": most}
    )


def maybe(schema: Schema) -> Schema:
    """This, or null."""
    return {**schema, "type": [schema["type"], "null"]}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
REAL: Schema = {"type": "number"}
TRUTH: Schema = {"type": "boolean"}


def check(value: Any, schema: Schema, where: str = "the body") -> None:
    """Compare a value with its schema.

    Raises:
        Refusal: It is something else; the message says where, what came, and what was expected.
    """
    kind = schema["type"]
    right = isinstance(value, _TYPES[kind]) and not (
        kind in ("integer", "number") and isinstance(value, bool)
    )
    if not right:
        raise Refusal(422, f"{where}: expected {_article(kind)}, got {printable(repr(value))[:60]}")
    if "enum" in schema and value not in schema["enum"]:
        raise Refusal(
            422,
            f"{where}: expected one of {', '.join(map(str, schema['enum']))}, got {printable(repr(value))[:60]}",
        )
    if kind in ("integer", "number") and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        raise Refusal(
            422,
            f"{where}: expected {schema['minimum']} to {schema['maximum']}, got {printable(repr(value))[:40]}",
        )
    if kind == "string" and not schema.get("minLength", 0) <= len(value) <= schema.get(
        "maxLength", len(value)
    ):
        raise Refusal(
            422,
            f"{where}: expected {schema['minLength']} to {schema['maxLength']} characters, got {len(value)}",
        )
    if kind == "array":
        if len(value) > schema.get("maxItems", len(value)):
            raise Refusal(422, f"{where}: expected at most {schema['maxItems']} items, got {len(value)}")
        for item in value:
            check(item, schema["items"], f"an item of {where}")
    if kind == "object":
        _check_object(value, schema, where)


def _check_object(value: dict[str, Any], schema: Schema, where: str) -> None:
    unknown = [name for name in value if name not in schema["properties"]]
    missing = [name for name in schema.get("required", ()) if name not in value]
    if unknown or missing:
        wrong = f"has no {missing[0]!r}" if missing else f"has {printable(unknown[0])[:60]!r}"
        raise Refusal(422, f"{where} {wrong}; expected {', '.join(schema['properties']) or 'nothing in it'}")
    for name, item in value.items():
        check(item, schema["properties"][name], repr(name))


def from_text(given: str, schema: Schema, where: str) -> Any:
    """A value of a query, which comes as text.

    Raises:
        Refusal: It is not what was expected.
    """
    value: Any = given
    if schema["type"] in ("integer", "number"):
        try:
            value = int(given) if schema["type"] == "integer" else float(given)
        except (ValueError, OverflowError):
            raise Refusal(
                422, f"{where}: expected {_article(schema['type'])}, got {printable(given)[:60]!r}"
            ) from None
    check(value, schema, where)
    return value


def _article(kind: str) -> str:
    return {"object": "an object", "array": "an array", "integer": "a whole number"}.get(kind, f"a {kind}")
