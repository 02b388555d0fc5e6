"""The AsyncAPI document of a program: every event type, and which plugin receives it.

Owns the form of the document.
Never knows routes; `/openapi.json` has them.
"""

from __future__ import annotations

from typing import Any, cast

from .._events._event import Event
from .._program._json_schema import Schema, event_components
from .._runtime import Runtime

VERSION = "3.0.0"


def asyncapi(runtime: Runtime, version: str) -> Schema:
    """The document, in AsyncAPI 3.0.

    Each event type is a channel. Its address is the path at which clients publish it, or null where
    it is the program's own; each plugin that receives it has an operation.

    Args:
        runtime: the program.
        version: Trivet's.
    """
    types = sorted(runtime.events.types, key=lambda event: event.__event_name__)
    references, schemas = event_components(types, "#/components/schemas/{name}")
    operations: Schema = {}
    for checked in runtime.program.plugins:
        for event in checked.listens_to:
            name = event.__event_name__
            operations[f"{checked.name}.{name}"] = {
                "action": "receive",
                "title": f"{checked.name} receives {name}",
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
                "tags": [{"name": checked.name}],
            }
    return {
        "asyncapi": VERSION,
        "info": {"title": runtime.service, "version": version},
        "defaultContentType": "application/json",
        "channels": {event.__event_name__: _channel(runtime, event) for event in types},
        "operations": operations,
        "components": {
            "messages": {
                name: {"name": name, "payload": reference} for name, reference in references.items()
            },
            "schemas": {name: _as_draft_07(schema) for name, schema in schemas.items()},
        },
    }


def _channel(runtime: Runtime, event: type[Event]) -> Schema:
    name = event.__event_name__
    return {
        "address": f"/events/{name}" if runtime.events.is_open(event) else None,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }


def _as_draft_07(schema: Any) -> Any:
    """A schema in the older draft that AsyncAPI builds upon, which writes tuples otherwise.

    >>> _as_draft_07({"type": "array", "prefixItems": [{"type": "string"}], "items": False})
    {'type': 'array', 'items': [{'type': 'string'}], 'additionalItems': False}
    """
    if isinstance(schema, list):
        return [_as_draft_07(each) for each in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    known = cast("Schema", schema)
    is_tuple = isinstance(known.get("prefixItems"), list)
    words = {"prefixItems": "items", "items": "additionalItems"} if is_tuple else {}
    return {words.get(key, key): _as_draft_07(value) for key, value in known.items()}
