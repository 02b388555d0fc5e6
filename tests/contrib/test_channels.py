"""The channels of brokers in a program's AsyncAPI document; no broker is needed."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import pytest
from structlog.testing import capture_logs

from trivet import BrokerChannel, Event, EventPlugin, Plugin, Runtime, Settings
from trivet._program._loader import load
from trivet._web._asyncapi import asyncapi
from trivet_contrib._brokers._sink import BrokerSink
from trivet_contrib._brokers._source import BrokerSource

from ..runtime.web.test_asyncapi import validated

PASSWORD = "s3cret"
NOBODY = f"ann:{PASSWORD}@127.0.0.1:1"
"""A user, and an address at which nothing listens."""
DURABLE = {"durable": True, "exclusive": False, "autoDelete": False}
AMQP: dict[str, Any] = {"bindingVersion": "0.3.0"}


class Ordered(Event):
    number: int


class Refund(Event):
    number: int


class Settled(Event, from_outside=False):
    number: int


class Kitchen(EventPlugin[Ordered | Settled]):
    async def handle_event(self, event: Ordered | Settled) -> None:
        pass


CHANNELS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "redis_source": (
        {"url": f"redis://{NOBODY}/3", "stream": "orders"},
        {"address": "orders", "bindings": {"redis": {}}},
        {"action": "receive", "bindings": {"redis": {}}},
    ),
    "redis_sink": (
        {"url": f"redis://{NOBODY}/3", "stream": "orders"},
        {"address": "orders", "bindings": {"redis": {}}},
        {"action": "send", "bindings": {"redis": {}}},
    ),
    "nats_source": (
        {"url": f"nats://{NOBODY}", "stream": "orders", "subject": "orders.*", "consumer": "us"},
        {"address": "orders.*", "bindings": {"nats": {}}},
        {
            "action": "receive",
            "bindings": {"nats": {"queue": "us", "bindingVersion": "0.1.0"}},
        },
    ),
    "nats_sink": (
        {"url": f"nats://{NOBODY}", "stream": "orders"},
        {"address": "orders", "bindings": {"nats": {}}},
        {"action": "send", "bindings": {"nats": {}}},
    ),
    "rabbitmq_source": (
        {"url": f"amqp://{NOBODY}", "queue": "orders"},
        {
            "address": "orders",
            "bindings": {"amqp": {"is": "queue", "queue": {"name": "orders", **DURABLE}, **AMQP}},
        },
        {"action": "receive", "bindings": {"amqp": {"ack": True, **AMQP}}},
    ),
    "rabbitmq_sink": (
        {"url": f"amqp://{NOBODY}", "exchange": "shop", "routing_key": "orders"},
        {
            "address": "orders",
            "bindings": {"amqp": {"is": "routingKey", "exchange": {"name": "shop"}, **AMQP}},
        },
        {"action": "send", "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, **AMQP}}},
    ),
}
"""For each connector to a broker: settings, and the channel and the operation that they mean."""
PATHS = {"redis": "/3"}


def document(plugin: str, *others: type[Plugin], **settings: object) -> dict[str, Any]:
    """The valid document of a program with a connector, which is not started."""
    program = load(
        Settings(active_plugins=[plugin], plugins={plugin: settings}),
        plugins=[Kitchen, *others],
        event_types=[Ordered, Refund, Settled],
    )
    return validated(asyncapi(Runtime(program), "1"))


def test_each_connector_to_a_broker_is_here() -> None:
    """No connector to a broker is left out of this file's table."""
    connectors: set[str] = set()
    for entry in entry_points(group="trivet.plugins"):
        module: Any = entry.load()
        names: list[str] = dir(module)
        classes = [each for name in names if isinstance(each := getattr(module, name), type)]
        connectors |= {
            entry.name
            for each in classes
            if issubclass(each, Plugin)
            and issubclass(each, (BrokerSource, BrokerSink))
            and each.__module__ == module.__name__
        }
    assert connectors == {*CHANNELS}


@pytest.mark.parametrize("plugin", CHANNELS)
def test_a_connector_has_its_channel(plugin: str) -> None:
    """A connector's channel has its address, its server without a password, and the bindings of its
    protocol; its operation says which way events go."""
    settings, expected, operation = CHANNELS[plugin]
    found = document(plugin, **settings)
    protocol = settings["url"].partition(":")[0]
    name = f"{plugin}@{protocol}"
    channel, done = found["channels"][name], found["operations"][name]
    assert {key: channel[key] for key in expected} == expected
    assert {key: done[key] for key in operation} == operation
    server = {"host": "127.0.0.1:1", "protocol": protocol}
    path = {"pathname": PATHS[protocol]} if protocol in PATHS else {}
    assert found["servers"][name] == {**server, **path}
    assert channel["servers"] == [{"$ref": f"#/servers/{name}"}]
    assert found["channels"]["ordered"]["servers"] == [{"$ref": "#/servers/http"}]
    assert PASSWORD not in str(found)
    assert "ann" not in str(found["servers"])
    messages = {*channel["messages"]}
    assert {each["$ref"].rpartition("/")[2] for each in done["messages"]} == messages
    if done["action"] == "receive":  # Those from outside to which a plugin listens.
        assert messages == {"ordered"}
    else:
        assert {"ordered", "refund", "settled"} <= messages


def test_a_source_of_one_type() -> None:
    """A source whose messages are all of one type has that alone."""
    settings = {**CHANNELS["redis_source"][0], "event": "ordered"}
    channel = document("redis_source", **settings)["channels"]["redis_source@redis"]
    assert channel["messages"] == {"ordered": {"$ref": "#/components/messages/ordered"}}


def test_a_sink_of_documents() -> None:
    """A sink of CloudEvents in one document has them as its messages, with the event as `data`."""
    settings = {**CHANNELS["redis_sink"][0], "format": "structured"}
    channel = document("redis_sink", **settings)["channels"]["redis_sink@redis"]
    message = channel["messages"]["refund"]
    assert message["contentType"] == "application/cloudevents+json"
    assert message["payload"]["properties"]["data"] == {
        "$ref": "#/components/messages/refund/payload"
    }


def test_a_queue_of_a_sink_and_a_stream_without_a_subject() -> None:
    """A sink may have a queue; where the broker alone knows the subjects, there is no address."""
    settings = {"url": f"amqp://{NOBODY}", "queue": "orders"}
    channel = document("rabbitmq_sink", **settings)["channels"]["rabbitmq_sink@amqp"]
    assert channel["bindings"]["amqp"]["is"] == "queue"
    settings = {"url": f"nats://{NOBODY}, tls://127.0.0.2:1", "stream": "orders"}
    found = document("nats_source", **settings)
    assert found["channels"]["nats_source@nats"]["address"] is None
    assert found["servers"]["nats_source@nats.2"] == {"host": "127.0.0.2:1", "protocol": "tls"}


class Confused(Plugin):
    async def run(self) -> None:
        return

    def describe_channels(self) -> list[BrokerChannel]:
        raise ZeroDivisionError


def test_a_plugin_that_cannot_describe_its_channels() -> None:
    """A plugin whose description fails costs the document no other plugin's channels."""
    with capture_logs() as lines:
        found = document("redis_sink", Confused, **CHANNELS["redis_sink"][0])
    assert "redis_sink@redis" in found["channels"]
    (line,) = (line for line in lines if line["log_level"] == "error")
    assert (line["event"], line["plugin"]) == ("no channels", "confused")
