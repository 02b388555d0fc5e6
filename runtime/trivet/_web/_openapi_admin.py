"""An operator's operations in OpenAPI: the parts that their handlers' docstrings do not say.

Owns the parameters and the good responses of the routes under `/-/`, the page's among them.
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
_NUMBER: Schema = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
_FILTER: list[Schema] = [
    {
        "name": "number",
        "in": "query",
        "description": "Those with these numbers, with commas between.",
        "schema": {"type": "array", "items": _NUMBER, "minItems": 1},
        "style": "form",
        "explode": False,
    },
    {"name": "plugin", "in": "query", "schema": _TEXT},
    {"name": "event", "in": "query", "schema": _TEXT},
    {"name": "since", "in": "query", "schema": _MOMENT},
    {"name": "until", "in": "query", "schema": _MOMENT},
    {
        "name": "text",
        "in": "query",
        "description": "Those whose reason has this text.",
        "schema": _TEXT,
    },
]
_ALL: Schema = {"name": "all", "in": "query", "schema": {"enum": ["true"]}}
_PAGE: list[Schema] = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
    {"name": "before", "in": "query", "schema": _NUMBER},
]
_IF_MATCH: Schema = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The `ETag` of GET /-/settings, or `*` for any.",
    "schema": _TEXT,
}
_LEVELS: Schema = {
    "name": "level",
    "in": "query",
    "required": True,
    "schema": {"enum": ["debug", "info", "warning", "error", "default"]},
}


def _answered(status: str, about: str, *parameters: Schema) -> Schema:
    responses = {status: {"description": about, "content": _OBJECT}}
    return {"parameters": [*parameters], "responses": responses}


def _file(about: str, *media_types: str) -> Schema:
    content = {media_type: {"schema": _TEXT} for media_type in media_types}
    known = {"304": {"description": "The browser has it."}}
    return {"responses": {"200": {"description": about, "content": content}, **known}}


_STREAM: Schema = {
    "200": {
        "description": "A stream of events.",
        "content": {"text/event-stream": {}},  # An event is no text, nor a document.
    }
}

ADMIN: dict[str, Schema] = {
    "GET /-/": _file("The page.", "text/html"),
    "GET /-/page/<version>/<name>": _file("The file.", "text/javascript", "text/css", "*/*"),
    "GET /-/overview": _answered("200", "The state."),
    "GET /-/live": {"responses": _STREAM},
    "GET /-/plugins": _answered("200", "The plugins."),
    "GET /-/plugins/<name>": _answered("200", "The plugin."),
    "GET /-/plugins/<name>/log": _answered("200", "The lines."),
    "GET /-/plugins/<name>/inbox": _answered(
        "200",
        "The events.",
        {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": 200},
        },
        {
            "name": "payload",
            "in": "query",
            "description": "The id of the event whose payload is shown.",
            "schema": _TEXT,
        },
    ),
    "GET /-/plugins/<name>/pages/<page>": _answered("200", "The page."),
    "POST /-/plugins/<name>/restart": _answered("202", "A new lifetime has begun.", _REASON),
    "POST /-/plugins/<name>/disable": _answered("202", "The plugin stops, or has.", _REASON),
    "POST /-/plugins/<name>/enable": _answered("202", "The plugin starts, or has.", _REASON),
    "POST /-/plugins/<name>/pause": _answered("200", "Delivery is paused.", _REASON),
    "POST /-/plugins/<name>/resume": _answered("200", "Delivery goes on.", _REASON),
    "POST /-/plugins/<name>/log-level": _answered("200", "The level.", _LEVELS, _REASON),
    "GET /-/dead-letters": _answered("200", "A page of them.", *_FILTER[1:], *_PAGE),
    "GET /-/dead-letters/<number>": {
        "names": {"number": _NUMBER},
        **_answered("200", "The dead letter."),
    },
    "POST /-/dead-letters/replay": _answered("200", "Their number.", *_FILTER, _ALL, _REASON),
    "POST /-/dead-letters/purge": _answered("200", "Their number.", *_FILTER, _ALL, _REASON),
    "GET /-/events": _answered("200", "The event types."),
    "GET /-/tasks": _answered(
        "200", "The tasks.", {"name": "plugin", "in": "query", "schema": _TEXT}
    ),
    "GET /-/stalls": _answered("200", "The stalls."),
    "GET /-/stalls/<number>": {"names": {"number": _NUMBER}, **_answered("200", "The profile.")},
    "GET /-/diagnostics": _answered("200", "The account."),
    "GET /-/tap": {
        "parameters": [
            {"name": "event", "in": "query", "schema": _TEXT},
            {"name": "plugin", "in": "query", "schema": _TEXT},
            {
                "name": "filter",
                "in": "query",
                "description": "FIELD=VALUE of the payload; of one field any, of several all.",
                "schema": {"type": "array", "items": _TEXT},
            },
            {
                "name": "sample",
                "in": "query",
                "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            },
            {"name": "payload", "in": "query", "schema": {"enum": ["true", "false"]}},
        ],
        "responses": _STREAM,
    },
    "POST /-/restart": _answered("202", "A new program takes over.", _REASON),
    "POST /-/plugins/<name>/reload": _answered("200", "The code is imported anew.", _REASON),
    "GET /-/settings": _answered("200", "The settings."),
    "PATCH /-/settings": {
        **_answered("200", "What has changed, and what needs a restart.", _IF_MATCH, _REASON),
        "requestBody": {
            "required": True,
            "content": {"application/merge-patch+json": {"schema": {"type": "object"}}},
        },
    },
    "POST /-/reload": _answered("200", "What has changed, and what needs a restart.", _REASON),
}
"""The operations, by method and rule."""
