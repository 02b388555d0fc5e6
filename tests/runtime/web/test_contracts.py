"""The contract that clients read, and whether the doors are as it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from trivet import Runtime
from trivet._web._app import build_app
from trivet._web._openapi import openapi
from trivet.testing import client as client_of
from trivet.testing import open_plugins, serving

from .test_doors import TOKENS, OrderPlaced, Pages, sent
from .test_openapi import Many, Shop

EXAMPLES = {"integer": "1", "number": "1.5", "string": "order_placed"}
"""A value in a path for each type."""
PLUGINS = (Shop, Many, Pages)


async def document_of(runtime: Runtime) -> dict[str, Any]:
    """The document that a client with a token gets."""
    answer = await client_of(runtime).get("/openapi.json", headers=bearer("read"))
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    return dict(await answer.get_json())


def bearer(scope: str) -> dict[str, str]:
    """The header with the token for a scope."""
    (token,) = (token for token in TOKENS if scope in token.scopes)
    return {"Authorization": f"Bearer {token.secret.reveal()}"}


@attrs.frozen
class Door:
    """A method of a path, as the document has them."""

    method: str
    path: str
    needed: str | None


def doors(document: dict[str, Any]) -> Iterator[Door]:
    """Every operation of a document, with a path that leads to it."""
    for path, item in document["paths"].items():
        for key, operation in item.items():
            values = {
                parameter["name"]: EXAMPLES[parameter["schema"]["type"]]
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "path"
            }
            filled = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)  # noqa: B023
            needed = {scope for way in operation["security"] for scope in way.get("token", ())}
            method = "websocket" if key == "x-websocket" else key.upper()
            yield Door(method, filled, needed.pop() if needed else None)


async def test_every_route_is_described(autojump_clock: object) -> None:
    """The document is valid, and has every route of Trivet's own and of plugins."""
    async with open_plugins(*PLUGINS, tokens=TOKENS, event_types=[OrderPlaced]) as runtime:
        document = await document_of(runtime)
        rules = [*build_app(runtime).url_map.iter_rules()]
    OpenAPIV31SpecValidator(document).validate()
    found = {(key, re.sub(r"\{\w+\}", "{}", p)) for p in document["paths"] for key in
             document["paths"][p]}  # fmt: skip
    expected = {
        ("x-websocket" if rule.websocket else method.lower(), re.sub(r"<[^>]+>", "{}", rule.rule))
        for rule in rules
        for method in (rule.methods or {"GET"}) - {"HEAD", "OPTIONS"}
    }
    assert expected | {("head", "/many")} == found
    assert len({op["operationId"] for item in document["paths"].values() for op in
                item.values()}) == len(found)  # fmt: skip


async def test_an_operation_says_what_its_author_wrote(autojump_clock: object) -> None:
    """An operation has its plugin, the first lines of its docstring, and its scope."""
    async with open_plugins(*PLUGINS, tokens=TOKENS) as runtime:
        paths = (await document_of(runtime))["paths"]
    order = paths["/orders/{number}"]["get"]
    assert (order["tags"], order["summary"]) == (["shop"], "One order.")
    assert order["description"] == "As its customer sees it."
    assert order["parameters"][0]["schema"] == {"type": "integer", "minimum": 0, "maximum": 9}
    assert paths["/two/{name}"]["put"]["summary"] == "Put one."
    assert paths["/both"]["get"]["security"] == []
    assert paths["/both"]["x-websocket"]["security"][0] == {"token": ["admin"]}
    assert paths["/both"]["x-websocket"]["summary"] == "Connect."


async def test_paths_are_below_the_root() -> None:
    """Behind a proxy that serves the program below a path, and mounted below one, the document says
    so: its paths are found there."""
    async with (
        open_plugins(Shop, root_path="/trivet") as runtime,
        serving(runtime) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        document: Any = (await client.get("/trivet/openapi.json")).json()
        OpenAPIV31SpecValidator(document).validate()
        assert document["servers"] == [{"url": "/trivet"}]
        assert (await client.get("/trivet/orders/1")).status_code == 200
    async with open_plugins(Shop) as runtime:
        scope: Any = {"root_path": "/mounted"}
        answer = await client_of(runtime).get("/mounted/openapi.json", scope_base=scope)
        assert (await answer.get_json())["servers"] == [{"url": "/mounted"}]
        assert "servers" not in await (await client_of(runtime).get("/openapi.json")).get_json()


async def test_every_door_is_as_the_document_says() -> None:
    """Each route is shut without a token, with a wrong one and with one for each other scope, and
    open with one for its own; a public one answers all of these alike."""
    async with open_plugins(*PLUGINS, tokens=TOKENS, event_types=[OrderPlaced]) as runtime:
        found = [*doors(await document_of(runtime))]
    assert {door.needed for door in found} == {None, "ingest", "read", "admin"}
    for door in found:
        without, wrong, by_scope = await answers(door)
        if door.needed is None:
            assert (door, {without, wrong, *by_scope.values()}) == (door, {without})
            continue
        assert (door, without, wrong) == (door, 401, 401)
        for scope, status in by_scope.items():
            is_shut = scope != door.needed
            assert (door, scope, status == 403) == (door, scope, is_shut)
            assert (door, scope, status) != (door, scope, 401)


async def answers(door: Door) -> tuple[int, int, dict[str, int]]:
    """The statuses without a token, with a wrong one, and with one for each scope.

    Each door has a program of its own, which counts the wrong tokens of an address.
    """
    async with (
        open_plugins(*PLUGINS, tokens=TOKENS, event_types=[OrderPlaced]) as runtime,
        serving(runtime) as url,
    ):
        tokens = {token.name: token.secret.reveal() for token in TOKENS}
        without = await sent(url, door.method, door.path)
        wrong = await sent(url, door.method, door.path, "Authorization: Bearer of-nobody-at-all")
        by_scope = {
            scope: await sent(url, door.method, door.path, f"Authorization: Bearer {secret}")
            for scope, secret in tokens.items()
        }
        return without, wrong, by_scope


async def test_a_document_is_made_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """The document is made for the first client that asks, and for no other."""
    made: list[int] = []

    def counted(*args: Any) -> Any:
        made.append(1)
        return openapi(*args)

    monkeypatch.setattr("trivet._web._contracts.openapi", counted)
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        asking = client_of(runtime)
        assert made == []
        for _ in range(2):
            await asking.get("/openapi.json", headers=bearer("read"))
        assert made == [1]
