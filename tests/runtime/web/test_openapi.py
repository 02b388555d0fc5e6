"""The form of the OpenAPI document."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from trivet import BackgroundPlugin, Event, Handler, Runtime, route, websocket_route
from trivet._web._openapi import Operation, openapi
from trivet.testing import open_plugins


class OrderPlaced(Event):
    number: Annotated[int, msgspec.Meta(ge=1)]


class Settled(Event, from_outside=False):
    number: int = 0


class Shop(BackgroundPlugin):
    @route("/orders/<int:number>")
    async def order(self, number: Annotated[int, msgspec.Meta(le=9)]) -> str:
        """One order.

        As its customer sees it.
        """
        return str(number)


async def handler(**_: Any) -> None:
    """A handler without arguments of its own."""


def annotated(hint: object) -> Any:
    """A handler whose argument `x` has an annotation."""

    async def code(x: Any) -> None: ...

    code.__annotations__ = {"x": hint}
    return code


@pytest.fixture
async def runtime() -> Any:
    """A program with one plugin."""
    async with open_plugins(Shop, event_types=[OrderPlaced, Settled]) as runtime:
        yield runtime


def made(runtime: Runtime, *operations: Operation) -> dict[str, Any]:
    """The valid document of some operations."""
    document = msgspec.json.decode(msgspec.json.encode(openapi(runtime, operations, "1")))
    OpenAPIV31SpecValidator(document).validate()
    return dict(document)


def variable(runtime: Runtime, rule: str, code: Any = handler) -> Any:
    """The schema of the only variable of a rule."""
    document = made(runtime, Operation("GET", rule, "read", code, "shop"))
    ((item,),) = (document["paths"].values(),)
    (parameter,) = item["get"]["parameters"]
    return parameter["schema"]


def variable_of_ingest(runtime: Runtime) -> Any:
    """The schema of the name in the path of an event."""
    document = made(runtime, Operation("POST", "/events/<name>", "ingest", handler))
    return document["paths"]["/events/{name}"]["post"]["parameters"][0]["schema"]


@pytest.mark.parametrize(
    ("rule", "schema"),
    [
        ("/a/<x>", {"type": "string", "minLength": 1}),
        ("/a/<path:x>", {"type": "string", "minLength": 1}),
        ("/a/<int(min=1):x>", {"type": "integer", "minimum": 0}),
        ("/a/<float:x>", {"type": "number", "minimum": 0}),
        ("/a/<uuid:x>", {"type": "string", "format": "uuid"}),
        ("/a/<any(tea, coffee):x>", {"type": "string", "enum": ["tea", "coffee"]}),
    ],
)
async def test_a_rule_says_the_type(runtime: Runtime, rule: str, schema: object) -> None:
    """The converter in a rule is the type of the variable."""
    assert variable(runtime, rule) == schema


async def test_an_annotation_says_more(runtime: Runtime) -> None:
    """An annotation bounds a variable; one of another type than the rule's counts for nothing."""
    bounded, chosen = annotated(Annotated[int, msgspec.Meta(le=9)]), annotated(Literal["a", "b"])
    unique, wrong, custom = annotated(uuid.UUID), annotated(int), annotated(BackgroundPlugin)
    assert variable(runtime, "/a/<int:x>", bounded) == {
        "type": "integer",
        "minimum": 0,
        "maximum": 9,
    }
    assert sorted(variable(runtime, "/a/<x>", chosen)["enum"]) == ["a", "b"]
    assert variable(runtime, "/a/<uuid:x>", unique) == {"type": "string", "format": "uuid"}
    assert variable(runtime, "/a/<x>", wrong) == {"type": "string", "minLength": 1}

    assert variable(runtime, "/a/<int:x>", custom)["type"] == "integer"


async def test_an_annotation_that_only_type_checkers_know(runtime: Runtime) -> None:
    """An annotation that cannot be evaluated leaves the rule's type."""
    assert variable(runtime, "/a/<int:x>", annotated("NowhereDefined")) == {
        "type": "integer",
        "minimum": 0,
    }


async def test_paths_that_differ_in_names_are_one(runtime: Runtime) -> None:
    """Two rules with other names for a variable are one path, whose name the second one takes."""
    get = Operation("GET", "/a/<x>/<int:y>", "read", handler, "shop")
    put = Operation("PUT", "/a/<z>/<u>", "admin", handler, "shop")
    paths = made(runtime, get, put)["paths"]
    assert [*paths] == ["/a/{x}/{y}"]
    item = paths["/a/{x}/{y}"]
    assert [p["name"] for p in item["put"]["parameters"]] == ["x", "y"]
    assert item["put"]["security"] == [{"token": ["admin"]}, {"session": ["admin"]}]


async def test_only_events_that_clients_may_publish(runtime: Runtime) -> None:
    """The document has the payloads of the events that are open, and no others."""
    schemas = made(runtime)["components"]["schemas"]
    assert sorted(schemas) == ["OrderPlaced", "Problem"]
    assert schemas["OrderPlaced"]["properties"]["number"] == {"type": "integer", "minimum": 1}


async def test_a_path_names_the_events(runtime: Runtime) -> None:
    """The names in the path of `POST /events/{name}` are those of the events that are open."""
    assert variable_of_ingest(runtime) == {
        "type": "string",
        "minLength": 1,
        "enum": ["order_placed"],
    }


async def test_a_program_without_open_events() -> None:
    """A program whose events are all its own has a valid document."""
    async with open_plugins(Shop) as runtime:
        made(runtime, Operation("POST", "/events/<name>", "ingest", handler))


class Many(BackgroundPlugin):
    @route("/many", methods=["PATCH", "HEAD", "DELETE"])
    async def many(self) -> str:
        return ""

    @route("/two/<name>")
    class Two(Handler["Many"]):
        """A handler class."""

        async def get(self, name: str) -> str:
            """Get one."""
            return name

        async def put(self, name: str) -> str:
            """Put one."""
            return name

    @route("/both", scope=None)
    async def both(self) -> str:
        return ""

    @websocket_route("/both", scope="admin")
    async def open(self) -> None:
        """Connect."""
