"""The AsyncAPI document of a program: every event type, its receivers, and brokers' channels.

Owns the form of the document.
Never knows routes; `/openapi.json` has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import structlog

from .._events._event import Event
from .._faults._advice import explained
from .._plugins._channels import BrokerChannel
from .._program._json_schema import Schema, event_components
from .._program._plugin_tables import CheckedPlugin
from .._runtime import Runtime

VERSION = "3.0.0"
HTTP = "http"
"""The name of the program's own server, where there are others."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def asyncapi(runtime: Runtime, version: str) -> Schema:
    """The document, in AsyncAPI 3.0.

    Each event type is a channel. Its address is the path at which clients publish it, or null where
    it is the program's own; each plugin that receives it has an operation. A channel of a broker
    has the name of its plugin, with the protocol behind an `@`.

    Args:
        runtime: the program.
        version: Trivet's.
    """
    types = sorted(runtime.events.types, key=lambda event: event.__event_name__)
    references, schemas = event_components(types, "#/components/schemas/{name}")
    channels = {event.__event_name__: _channel(runtime, event) for event in types}
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
    servers: Schema = {}
    for name, checked, channel in _of_brokers(runtime):
        events = [each.__event_name__ for each in _events(runtime, checked, channel)]
        servers |= (mine := _servers(name, channel))
        channels[name] = _broker_channel(channel, mine, events)
        operations[name] = _operation(name, checked, channel, events)
    if servers or runtime.program.settings.root_path:
        # A channel without servers would be at each of them.
        servers[HTTP] = _own_server(runtime)
        channels = {name: {"servers": [_server(HTTP)], **each} for name, each in channels.items()}
    return {
        "asyncapi": VERSION,
        "info": {"title": runtime.service, "version": version},
        "defaultContentType": "application/json",
        **({"servers": servers} if servers else {}),
        "channels": channels,
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


def _of_brokers(runtime: Runtime) -> Iterator[tuple[str, CheckedPlugin, BrokerChannel]]:
    """Each channel of each plugin, with its name, which no event has."""
    for checked in runtime.program.plugins:
        plugin = runtime.hosts[checked.name].plugin
        try:
            described = list(plugin.describe_channels())
        except Exception as error:  # It costs the document no other plugin's channels.
            _log.error("no channels", plugin=checked.name, exc_info=explained(error))
            continue
        for number, channel in enumerate(described, 1):
            name = f"{checked.name}@{channel.protocol}"
            yield name if number == 1 else f"{name}.{number}", checked, channel


def _events(
    runtime: Runtime, checked: CheckedPlugin, channel: BrokerChannel
) -> Iterable[type[Event]]:
    """The event types of a broker's channel."""
    if channel.events is not None:
        return channel.events
    if channel.action == "send":
        return checked.listens_to
    known = runtime.events
    return [each for each in known.types if known.is_open(each) and runtime.listens(each)]


def _broker_channel(channel: BrokerChannel, servers: Schema, events: Iterable[str]) -> Schema:
    refer = _cloud_event if channel.is_structured else _data
    about: Schema = {"description": channel.description} if channel.description else {}
    return {
        "address": channel.address,
        "servers": [_server(name) for name in servers],
        "messages": {name: refer(name) for name in events},
        "bindings": {channel.protocol: dict(channel.bindings)},
        **about,
    }


def _operation(
    name: str, checked: CheckedPlugin, channel: BrokerChannel, events: Iterable[str]
) -> Schema:
    return {
        "action": channel.action,
        "title": f"{checked.name} {channel.action}s events by {channel.protocol}",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{event}"} for event in events],
        "bindings": {channel.protocol: dict(channel.operation_bindings)},
        "tags": [{"name": checked.name}],
    }


def _data(event: str) -> Schema:
    """A message with the event's data; a CloudEvent has its attributes in headers."""
    return {"$ref": f"#/components/messages/{event}"}


def _cloud_event(event: str) -> Schema:
    """A message with a CloudEvent in one document."""
    text = {"type": "string"}
    members: Schema = dict.fromkeys(("specversion", "id", "source"), text)
    members["type"] = {"const": event}
    members["data"] = {"$ref": f"#/components/messages/{event}/payload"}
    return {
        "name": event,
        "contentType": "application/cloudevents+json",
        "payload": {"type": "object", "properties": members, "required": list(members)},
    }


def _server(name: str) -> Schema:
    return {"$ref": f"#/servers/{name}"}


def _servers(name: str, channel: BrokerChannel) -> Schema:
    """The servers of a channel, by their names."""
    found: Schema = {}
    for number, text in enumerate(channel.servers, 1):
        url = urlsplit(text)
        host = url.netloc.rpartition("@")[2]  # No password, whoever has left it in there.
        path: Mapping[str, str] = {"pathname": url.path} if url.path not in ("", "/") else {}
        server = {"host": host or "localhost", "protocol": url.scheme, **path}
        found[name if number == 1 else f"{name}.{number}"] = server
    return found


def _own_server(runtime: Runtime) -> Schema:
    """The program's own server: at the first address that clients may use, as far as known."""
    settings = runtime.program.settings
    names = [each for each in settings.allowed_hosts if not each.startswith("*.")]
    binds = [each for each in settings.addresses if not each.startswith(("unix:", "systemd"))]
    protocol = "http" if settings.tls.certificate is None else "https"
    path: Schema = {"pathname": settings.root_path} if settings.root_path else {}
    return {"host": [*names, *binds, "localhost"][0], "protocol": protocol, **path}


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
