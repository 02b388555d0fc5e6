"""The AsyncAPI document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
from jsonschema import Draft7Validator

from trivet import Event, EventPlugin, Runtime
from trivet._web._asyncapi import asyncapi
from trivet.testing import client, open_plugins

OFFICIAL = json.loads(
    (Path(__file__).parent / "asyncapi" / "asyncapi-3.0.0.json").read_text("utf-8")
)
"""AsyncAPI's own schema of a document, from the package `@asyncapi/specs`."""


class Address(msgspec.Struct):
    street: str


class Ordered(Event):
    number: Annotated[int, msgspec.Meta(ge=1)]
    place: tuple[float, float] = (0.0, 0.0)
    address: Address | None = None


class Rushed(Ordered):
    hours: int = 1


class Settled(Event, from_outside=False, name="order.settled"):
    number: int = 0


class Kitchen(EventPlugin[Ordered]):
    async def handle_event(self, event: Ordered) -> None:
        pass


def validated(document: dict[str, Any]) -> dict[str, Any]:
    """A document as its clients read it; it is valid."""
    read = msgspec.json.decode(msgspec.json.encode(document))
    official: Any = Draft7Validator(OFFICIAL)
    official.validate(read)
    return dict(read)


def made(runtime: Runtime) -> dict[str, Any]:
    """The valid document of a program."""
    return validated(asyncapi(runtime, "1"))


async def test_each_event_type_is_a_channel() -> None:
    """An event type has a channel, whose address is null where clients may not publish it."""
    async with open_plugins(Kitchen, event_types=[Ordered, Rushed, Settled]) as runtime:
        document = made(runtime)
    addresses = {name: channel["address"] for name, channel in document["channels"].items()}
    assert addresses["ordered"] == "/events/ordered"
    assert addresses["rushed"] == "/events/rushed"
    assert addresses["order.settled"] is None
    assert {*addresses} == {*document["components"]["messages"]} == {*runtime.events}


async def test_each_plugin_that_receives_an_event_has_an_operation() -> None:
    """A plugin receives the events that it names, and those below them."""
    async with open_plugins(Kitchen, event_types=[Ordered, Rushed, Settled]) as runtime:
        operations = made(runtime)["operations"]
    assert {*operations} == {"kitchen.ordered", "kitchen.rushed"}
    assert operations["kitchen.rushed"]["action"] == "receive"
    assert operations["kitchen.rushed"]["channel"] == {"$ref": "#/channels/rushed"}
    assert operations["kitchen.rushed"]["tags"] == [{"name": "kitchen"}]


async def test_payloads_are_schemas() -> None:
    """The payload of a message is the schema of its class, in the draft that AsyncAPI knows."""
    async with open_plugins(Kitchen, event_types=[Ordered]) as runtime:
        components = made(runtime)["components"]
    assert components["messages"]["ordered"]["payload"] == {"$ref": "#/components/schemas/Ordered"}
    schema = {"$ref": "#/components/schemas/Ordered", "components": components}
    validator: Any = Draft7Validator(schema)
    assert validator.is_valid({"number": 1, "place": [1.5, 2], "address": {"street": "x"}})
    for wrong in (
        {"number": 0},
        {},
        {"number": 1, "place": [1, 2, 3]},
        {"number": 1, "place": [1, "x"]},
    ):
        assert not validator.is_valid(wrong), wrong


async def test_a_program_without_plugins() -> None:
    """A program that nobody extends has a valid document, which a client gets."""
    async with open_plugins() as runtime:
        expected = made(runtime)
        answer = await client(runtime).get("/asyncapi.json")
        assert (answer.status_code, answer.content_type) == (200, "application/json")
        assert {**await answer.get_json(), "info": {}} == {**expected, "info": {}}


async def test_addresses_are_below_the_root() -> None:
    """Behind a proxy that serves the program below a path, the server's path says so, and each
    channel is at that server."""
    async with open_plugins(Kitchen, root_path="/trivet") as runtime:
        document = made(runtime)
    (name,) = document["servers"]
    assert document["servers"][name]["pathname"] == "/trivet"
    assert document["channels"]["ordered"]["servers"] == [{"$ref": f"#/servers/{name}"}]
