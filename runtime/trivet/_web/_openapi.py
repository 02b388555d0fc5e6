"""The OpenAPI document of a program: every route, what it asks for, and its problems.

Owns the form of the document, and how a rule of the router becomes a path of OpenAPI.
Never knows what a handler does; a plugin's answers are its author's.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, get_type_hints

import attrs
import msgspec

from .._access._tokens import Scope
from .._program._json_schema import Schema, any_value, event_components
from .._runtime import Runtime
from ._doors import COOKIE
from ._openapi_admin import ADMIN
from ._problems import MEDIA_TYPE, STATUS

VERSION = "3.1.0"
DOCUMENTS = ("/livez", "/startupz", "/readyz", "/plugins", "/openapi.json", "/asyncapi.json")
"""The rules that are answered by a JSON object."""
BODIES = ("POST", "PUT", "PATCH")
"""The methods whose requests have a body."""

_VARIABLE = re.compile(r"<(?:(?P<converter>\w+)(?:\((?P<arguments>[^<>]*)\))?:)?(?P<name>\w+)>")
_CONVERTED: dict[str, Schema] = {
    "int": {"type": "integer", "minimum": 0},
    "float": {"type": "number", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
}
"""The schema of a variable, by the converter in its rule; any other converter is for text."""
_PROBLEM: Schema = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error_code": {
            "anyOf": [{"enum": list(STATUS)}, {"type": "string", "pattern": "^http_[0-9]+$"}]
        },
    },
    "required": ["title", "status", "detail", "error_code"],
}
_PROBLEM_CONTENT: Schema = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_OBJECT: Schema = {"application/json": {"schema": {"type": "object"}}}
_TEXT: Schema = {"*/*": {"schema": {"type": "string"}}}
_PAGE: Schema = {"text/html": {"schema": {"type": "string"}}}
_WAIT: Schema = {
    "name": "wait",
    "in": "query",
    "description": "Whether to answer when the events have ended, and not when they are accepted.",
    "schema": {"enum": ["true", "false"], "default": "false"},
}
_EXPIRY: Schema = {
    "name": "expirytime",
    "in": "query",
    "description": "The moment after which the event is not delivered.",
    "schema": {"type": "string", "format": "date-time"},
}


@attrs.frozen
class Operation:
    """One method of one route."""

    method: str
    """In capitals; `websocket` for a websocket."""
    rule: str
    """A path in Quart's syntax."""
    scope: Scope | None
    """The scope that it asks for; None for a public one."""
    handler: Callable[..., Any]
    """The code, for its docstring and its annotations."""
    plugin: str | None = None
    """The plugin whose route it is; None for one of Trivet's own."""


def openapi(runtime: Runtime, operations: Iterable[Operation], version: str) -> Schema:
    """The document, in OpenAPI 3.1.

    Two routes whose paths differ in the names of their variables are one path. Of two that differ
    in their types only, the first is described.

    Args:
        runtime: the program.
        operations: every route.
        version: Trivet's.
    """
    events = [event for event in runtime.events.types if runtime.events.is_open(event)]
    references, schemas = event_components(events, "#/components/schemas/{name}")
    own = _own(references)
    paths: dict[str, Schema] = {}
    names: dict[str, str] = {}
    for each in operations:
        path = _VARIABLE.sub(lambda match: "{" + match["name"] + "}", each.rule)
        path = names.setdefault(re.sub(r"\{\w+\}", "{}", path), path)
        item = paths.setdefault(path, {})
        key = "x-websocket" if each.method == "websocket" else each.method.lower()
        item.setdefault(key, _operation(each, path, own))
    return {
        "openapi": VERSION,
        "info": {"title": runtime.service, "version": version},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": _PROBLEM},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def _operation(each: Operation, path: str, own: dict[str, Schema]) -> Schema:
    """The operation object."""
    summary, _, description = (inspect.getdoc(each.handler) or "").partition("\n\n")
    known = own.get(f"{each.method} {each.rule}", {})
    operation: Schema = {"operationId": f"{each.method} {path}"}
    if summary:
        operation["summary"] = " ".join(summary.split())
    if description:
        operation["description"] = description
    if each.plugin is not None:
        operation["tags"] = [each.plugin]
    parameters = [*_variables(each, path, known.get("names", {})), *known.get("parameters", ())]
    if parameters:
        operation["parameters"] = parameters
    if "requestBody" in known:
        operation["requestBody"] = known["requestBody"]
    elif each.plugin is not None and each.method in BODIES:
        operation["requestBody"] = {"content": {"*/*": {}}}
    operation["responses"] = known.get("responses", {}) | _others(each)
    scopes = [] if each.scope is None else [each.scope]
    operation["security"] = [{"token": scopes}, {"session": scopes}] if scopes else []
    return operation


def _others(each: Operation) -> Schema:
    """The responses to all that goes wrong; a plugin's has its author's, too."""
    if each.plugin is None:
        return {"default": {"description": "A problem.", "content": _PROBLEM_CONTENT}}
    about = "The plugin's own answer, or a problem."
    found: Schema = {"default": {"description": about, "content": {**_PROBLEM_CONTENT, "*/*": {}}}}
    return found | ({"101": {"description": "Open."}} if each.method == "websocket" else {})


def _variables(each: Operation, path: str, known: Schema) -> list[Schema]:
    """The parameters of the path, whose names are those in the path of the document."""
    hints = _hints(each.handler)
    names: list[str] = re.findall(r"\{(\w+)\}", path)
    found: list[Schema] = []
    for name, match in zip(names, _VARIABLE.finditer(each.rule), strict=True):
        schema = _of_variable(match["converter"], match["arguments"], hints.get(match["name"]))
        schema = schema | known.get(name, {})
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    return found


def _hints(handler: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(handler, include_extras=True)
    except (NameError, TypeError):
        return {}  # A type that is imported for type checkers only.


def _of_variable(converter: str | None, arguments: str | None, hint: Any) -> Schema:
    """The schema of a variable: what its rule lets pass, with what its annotation says besides."""
    if converter == "any":
        values = [part.strip().strip("'\"") for part in (arguments or "").split(",")]
        return {"type": "string", "enum": values}
    rule = _CONVERTED.get(converter or "", {"type": "string", "minLength": 1})
    if hint is None:
        return rule
    annotated = msgspec.json.schema(hint, schema_hook=any_value)
    if "$ref" in annotated or annotated.get("type", rule["type"]) != rule["type"]:
        return rule
    return {**annotated, **rule}


def _own(references: dict[str, Schema]) -> dict[str, Schema]:
    """The parts of Trivet's own operations that their handlers' docstrings do not say."""
    about = {"200": "Every subscriber has handled the events.", "202": "The events are accepted."}
    fates: Schema = {"type": ["object", "array"], "items": {"type": "object"}}
    accepted = {
        status: {"description": text, "content": {"application/json": {"schema": fates}}}
        for status, text in about.items()
    }
    any_event = {"anyOf": list(references.values())} if references else {}
    cloud_event: Schema = {"type": "object"}
    good = {"responses": {"200": {"description": "The answer.", "content": _OBJECT}}}
    page = {"description": "The form.", "content": _PAGE}
    moved = {"303": {"description": "Done; what comes next is in Location."}}
    form: Schema = {
        "type": "object",
        "properties": {"token": {"type": "string"}},
        "required": ["token"],
    }
    return {
        "POST /events/<name>": {
            "names": {"name": {"enum": list(references)}} if references else {},
            "parameters": [_WAIT, _EXPIRY],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": any_event},
                    "application/x-ndjson": {"schema": {"type": "string"}},
                },
            },
            "responses": accepted,
        },
        "POST /events": {
            "parameters": [_WAIT],
            "requestBody": {
                "required": True,
                "content": {
                    "application/cloudevents+json": {"schema": cloud_event},
                    "application/cloudevents-batch+json": {
                        "schema": {"type": "array", "items": cloud_event}
                    },
                    "application/json": {"schema": any_event},
                },
            },
            "responses": accepted,
        },
        "GET /sign-in": {"responses": {"200": page}},
        "POST /sign-in": {
            "requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": form}}},
            "responses": {
                **moved,
                "401": {**page, "description": "The form again: the token is unknown."},
                "429": {**page, "description": "The form again: too many unknown tokens."},
            },
        },
        "POST /sign-out": {"responses": moved},
        "GET /": {"responses": {"307": {"description": "The page is at Location."}}},
        "GET /metrics": {"responses": {"200": {"description": "The metrics.", "content": _TEXT}}},
        **{f"GET {rule}": good for rule in DOCUMENTS},
        **ADMIN,
    }
