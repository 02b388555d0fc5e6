"""JSON Schemas: of the settings' file, for editors, and of event types.

Owns the schema of each type that a setting may have.
Never knows the values; what a schema cannot say, such as a validator of an author's, it leaves out.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, time
from enum import Enum
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
import msgspec

from .._events._delivery_settings import DeliverySettings
from .._events._event import Event
from .._events._types import EventTypes
from .._faults._secret import Secret
from .._plugins._event_plugins import EventPlugin
from .._plugins._supervision_settings import SupervisionSettings
from ._inspection import settings_fields
from ._loader import Program
from ._origins import as_json
from ._settings import NOT_READ, Settings
from ._structuring import type_of

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NAMED_TEXT = {"type": "string", "minLength": 1}
_SECRET: Schema = {
    "anyOf": [
        _NAMED_TEXT,
        *(
            {
                "type": "object",
                "properties": {word: _NAMED_TEXT},
                "required": [word],
                "additionalProperties": False,
            }
            for word in ("file", "credential")
        ),
    ]
}

_SCALARS: dict[type, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    # Editors turn TOML's dates and times into texts.
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string"},
    Secret: _SECRET,
}


def settings_schema(program: Program) -> Schema:
    """The schema of the settings' file of a program, with the settings of its active plugins."""
    fields = [field for field in attrs.fields(Settings) if field.name not in NOT_READ]
    schema = _Schemas(program.events).of_table(Settings, fields)
    tables = {plugin.name: _of_plugin(plugin.cls, program.events) for plugin in program.plugins}
    schema["properties"]["plugins"] |= {"properties": tables}
    return {"$schema": DIALECT, "title": "trivet.toml", **schema}


def event_schema(event: type[Event]) -> Schema:
    """The schema of an event's payload, as JSON.

    >>> class Tea(Event):
    ...     cups: int = 1
    >>> event_schema(Tea)["$defs"]["Tea"]["properties"]
    {'cups': {'type': 'integer', 'default': 1}}
    """
    references, components = event_components([event], "#/$defs/{name}")
    schema = references[event.__event_name__]
    if components:
        schema = schema | {"$defs": components}
    return {"$schema": DIALECT, "title": event.__event_name__, **schema}


def event_components(
    events: Collection[type[Event]], reference: str
) -> tuple[dict[str, Schema], Schema]:
    """The references to the schemas of events' payloads, by event name, and the schemas.

    Args:
        events: the event types. One whose default JSON cannot express is any object.
        reference: the form of a reference, with `{name}` where the schema's name stands.
    """
    references: dict[str, Schema] = {
        event.__event_name__: any_value(event) | {"type": "object"}
        for event in sorted(events, key=lambda event: event.__event_name__)
    }
    types = [event for event in events if _has_schema(event)]
    found, schemas = msgspec.json.schema_components(
        types, schema_hook=any_value, ref_template=reference
    )
    names = [event.__event_name__ for event in types]
    return references | dict(zip(names, found, strict=True)), schemas


def _has_schema(event: type[Event]) -> bool:
    """Whether msgspec makes a schema: not where a default is no JSON, such as a complex number."""
    try:
        msgspec.json.schema(event, schema_hook=any_value)
    except TypeError:
        return False
    return True


def any_value(custom: type) -> Schema:
    """The schema of a class that msgspec does not know: its name, and any value at all."""
    return {"title": custom.__name__}


def _of_plugin(cls: type[Any], events: EventTypes) -> Schema:
    schemas = _Schemas(events)
    schema = schemas.of_table(cls, settings_fields(cls))
    further: Schema = {
        "use": {
            "type": "string",
            "description": "The plugin that runs under this name: FILE or FILE.PLUGIN.",
        },
        "supervision": schemas.of_table(SupervisionSettings, attrs.fields(SupervisionSettings)),
    }
    if issubclass(cls, EventPlugin):
        further["delivery"] = schemas.of_table(DeliverySettings, attrs.fields(DeliverySettings))
    schema["properties"] |= further
    return schema


class _Schemas:
    """The schemas of the types of settings."""

    def __init__(self, events: EventTypes) -> None:
        self._events = events

    def of_table(self, cls: type[Any], fields: Iterable[attrs.Attribute[Any]]) -> Schema:
        """The schema of a table. No key is required: a variable may set it."""
        about = _descriptions(cls)
        properties: Schema = {}
        for field in fields:
            key = field.alias or field.name
            properties[key] = self._of_field(cls, field)
            if field.name in about:
                properties[key].setdefault("description", about[field.name])
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def _of_field(self, cls: type[Any], field: attrs.Attribute[Any]) -> Schema:
        if getattr(field, "converter", None) is not None:
            return {}  # The author's converter takes whatever is written.
        schema = self._of(type_of(cls, field)) | _bounds(field.validator)
        default: Any = field.default
        if isinstance(default, (bool, int, float, str, Path)) and field.repr is True:
            value = as_json(default)
            return schema if value is None else schema | {"default": value}
        return schema

    def _of(self, target: Any) -> Schema:
        kind, arguments = get_origin(target) or target, get_args(target)
        if kind in (Union, UnionType):
            members = [self._of(each) for each in arguments if each is not NoneType]
            return members[0] if len(members) == 1 else {"anyOf": members}
        if kind in (Literal, type):
            return {"enum": list(arguments) if kind is Literal else self._names(arguments)}
        if kind in (dict, Mapping):
            inner = self._of(arguments[1]) if arguments else {}
            return {"type": "object", "additionalProperties": inner}
        if kind in (list, tuple, set, frozenset):
            return self._of_array(kind, arguments)
        return self._of_class(kind) if isinstance(kind, type) else {}

    def _names(self, bases: tuple[Any, ...]) -> list[str]:
        """The names of the event types that a setting of the type `type[Base]` may name."""
        return sorted(e.__event_name__ for e in self._events.types if issubclass(e, bases))

    def _of_array(self, kind: type, arguments: tuple[Any, ...]) -> Schema:
        if kind is tuple and arguments and arguments[-1] is not ...:
            count = len(arguments)
            items = [self._of(each) for each in arguments]
            return {"type": "array", "prefixItems": items, "minItems": count, "maxItems": count}
        return {"type": "array", "items": self._of(arguments[0]) if arguments else {}}

    def _of_class(self, kind: type[Any]) -> Schema:
        if issubclass(kind, Enum):
            return {"enum": [member.value for member in kind]}
        if kind in _SCALARS:
            return dict(_SCALARS[kind])
        if attrs.has(kind):
            schema = self.of_table(kind, [each for each in attrs.fields(kind) if each.init])
            prose = (inspect.getdoc(kind) or "").partition("\n\n")[0]
            return schema | ({"description": " ".join(prose.split())} if prose else {})
        return {}


def _bounds(validator: object) -> Schema:
    """The bounds that attrs' own validators set."""
    schema: Schema = {}
    for part in getattr(validator, "_validators", ()):
        schema |= _bounds(part)
    bound = getattr(validator, "bound", None)
    word = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
    operator = getattr(validator, "compare_op", None)
    if operator in word and isinstance(bound, (int, float)) and math.isfinite(bound):
        schema[word[operator]] = bound
    return schema


def _descriptions(cls: type[Any]) -> dict[str, str]:
    """The text under each attribute of a class and its bases, in one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if attrs.has(base):
            found |= attribute_docstrings(base)
    return found


def attribute_docstrings(cls: type[Any]) -> dict[str, str]:
    """The text under each attribute in the body of a class, in one line; none without a source."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
        (definition,) = ast.parse(source).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    found: dict[str, str] = {}
    body: list[ast.stmt] = getattr(definition, "body", [])
    for statement, following in pairwise(body):
        match statement, following:
            case (
                (ast.AnnAssign(ast.Name(name)) | ast.Assign([ast.Name(name)])),
                ast.Expr(ast.Constant(str() as text)),
            ):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found
