"""An operator's operations in OpenAPI: the parts that their handlers' docstrings do not say.

Owns the parameters and the good responses of the routes under `/-/`.
Never knows what an operation does.
"""

from __future__ import annotations

from .._program._json_schema import Schema

_OBJECT: Schema = {"application/json": {"schema": {"type": "object"}}}
_TEXT: Schema = {"type": "string"}
_MOMENT: Schema = {"type": "string", "format": "date-time"}
_REASON: Schema = {
    "name": "reason",
    "in": "query",
    "description": "Why, for the log and the `operator_action_event`.",
    "schema": _TEXT,
}
_FILTER: list[Schema] = [
    {"name": "plugin", "in": "query", "schema": _TEXT},
    {"name": "since", "in": "query", "schema": _MOMENT},
    {"name": "all", "in": "query", "schema": {"enum": ["true"]}},
]


def _answered(status: str, about: str, *parameters: Schema) -> Schema:
    responses = {status: {"description": about, "content": _OBJECT}}
    return {"parameters": [*parameters], "responses": responses}


ADMIN: dict[str, Schema] = {
    "GET /-/plugins": _answered("200", "The plugins."),
    "GET /-/plugins/<name>": _answered("200", "The plugin."),
    "POST /-/plugins/<name>/restart": _answered("202", "A new lifetime has begun.", _REASON),
    "POST /-/plugins/<name>/disable": _answered("202", "The plugin stops, or has.", _REASON),
    "POST /-/plugins/<name>/enable": _answered("202", "The plugin starts, or has.", _REASON),
    "POST /-/plugins/<name>/pause": _answered("200", "Delivery is paused.", _REASON),
    "POST /-/plugins/<name>/resume": _answered("200", "Delivery goes on.", _REASON),
    "POST /-/dead-letters/replay": _answered("200", "The number of them.", *_FILTER, _REASON),
    "POST /-/dead-letters/purge": _answered("200", "The number of them.", *_FILTER, _REASON),
}
"""The operations, by method and rule."""
