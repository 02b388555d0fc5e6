"""Doors that tokens open."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import trio
from quart import websocket
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    Event,
    Runtime,
    Secret,
    TokenSettings,
    create_app,
    listening,
    route,
    websocket_route,
)
from trivet._access._attempts import BURST, INTERVAL
from trivet._web._app import build_app
from trivet._web._doors import Doors
from trivet.testing import client, open_plugins

from .clients import UPGRADE, ask, status

SECRET = "of-the-token-for-{}"
TOKENS: Any = [
    TokenSettings(name=scope, scopes=[scope], secret=Secret(SECRET.format(scope)))
    for scope in ("ingest", "read", "admin")
]
CLERK: Any = TokenSettings(
    name="clerk",
    scopes=["ingest"],
    events=["order_placed"],
    secret=Secret("of-the-clerks-own-token"),
)


class OrderPlaced(Event):
    number: int = 0


class Refund(Event):
    number: int = 0


class Shop(BackgroundPlugin):
    @route("/shop", methods=["GET", "POST"])
    async def shop(self) -> str:
        self.log.info("somebody is in the shop")
        return "open"

    @websocket_route("/news")
    async def news(self) -> None:
        await websocket.send("news")


DOORS: dict[str, tuple[str, str | None]] = {
    "GET /livez": ("/livez", None),
    "GET /readyz": ("/readyz", None),
    "GET /plugins": ("/plugins", "read"),
    "POST /events": ("/events", "ingest"),
    "POST /events/<name>": ("/events/order_placed", "ingest"),
    "POST /plugins/<name>/restart": ("/plugins/shop/restart", "admin"),
    "GET /sign-in": ("/sign-in", None),
    "POST /sign-in": ("/sign-in", None),
    "POST /sign-out": ("/sign-out", None),
    "GET /shop": ("/shop", "read"),
    "POST /shop": ("/shop", "read"),
}
"""Every door but that of the websocket, with a path that leads to it and its scope."""


def bearer(secret: str) -> dict[str, str]:
    """The headers of a request with a token."""
    return {"Authorization": f"Bearer {secret}"}


async def asked(
    runtime: Runtime, door: str, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """The status of the answer to a client at a door, and the error code if there is one."""
    method, path = door.partition(" ")[0], DOORS[door][0]
    headers = {"Content-Type": "application/json", **(headers or {})}
    data = "{}" if method == "POST" else None
    if door == "POST /events":
        said: object = {
            "specversion": "1.0",
            "id": "1",
            "source": "x",
            "type": "order_placed",
            "data": {},
        }
        data, headers["Content-Type"] = json.dumps(said), "application/cloudevents+json"
    asking = client(runtime)
    send = asking.post if method == "POST" else asking.get
    answer = await send(path, headers=headers, data=data)
    is_problem = answer.content_type == "application/problem+json"
    return answer.status_code, (await answer.get_json())["error_code"] if is_problem else ""


async def test_the_table_has_every_door() -> None:
    """The table of this file has every route of a program, so that none is left untried."""
    async with open_plugins(Shop) as runtime:
        rules = [*build_app(runtime).url_map.iter_rules()]
    found = {
        f"{method} {rule.rule}"
        for rule in rules
        for method in {*(rule.methods or ())} - {"HEAD", "OPTIONS"}
        if not rule.websocket
    }
    assert found == {*DOORS}
    assert [rule.rule for rule in rules if rule.websocket] == ["/news"]


@pytest.mark.parametrize("door", DOORS)
async def test_a_door_with_tokens(door: str, autojump_clock: MockClock) -> None:
    """A door is shut without the token for its scope, with a wrong one, and with each other one."""
    needed = DOORS[door][1]
    async with open_plugins(Shop, tokens=TOKENS, event_types=[OrderPlaced]) as runtime:
        without, wrong = await asked(runtime, door), await asked(runtime, door, bearer("x" * 20))
        if needed is None:
            assert without == wrong
            assert without[1] in ("", "too_many_attempts", "not_ready")
            return
        assert without == wrong == (401, "unauthorized")
        for token in TOKENS:
            status, code = await asked(runtime, door, bearer(token.secret.reveal()))
            if needed in token.scopes:
                assert (status < 300, code) == (True, "")
            else:
                assert (status, code) == (403, "forbidden")


@pytest.mark.parametrize("door", DOORS)
async def test_a_door_without_tokens(door: str, autojump_clock: MockClock) -> None:
    """Without any token everything is open, whatever token comes, and administration is not."""
    needed = DOORS[door][1]
    async with open_plugins(Shop, event_types=[OrderPlaced]) as runtime:
        for headers in ({}, bearer("x" * 20)):
            status, code = await asked(runtime, door, headers)
            if needed == "admin":
                assert (status, code) == (403, "forbidden")
            elif door != "POST /sign-in":  # There is no token to sign in with.
                assert (status < 400, code) == (True, "")


@pytest.mark.parametrize("door", DOORS)
async def test_one_token_shuts_its_own_scope(door: str, autojump_clock: MockClock) -> None:
    """A token for one scope shuts the doors of this scope, and no others."""
    async with open_plugins(Shop, tokens=TOKENS[:1], event_types=[OrderPlaced]) as runtime:
        status, _ = await asked(runtime, door)
    assert (status == 401) == (DOORS[door][1] == "ingest" or door == "POST /sign-in")


async def test_what_a_refused_client_is_told() -> None:
    """A refusal says what is missing, and never a secret."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        asking = client(runtime)
        answers = [
            await asking.get("/plugins", headers=headers)
            for headers in ({}, bearer("x" * 20), bearer(TOKENS[0].secret.reveal()))
        ]
        problems: list[Any] = [await answer.get_json() for answer in answers]
    assert [answer.headers.get("WWW-Authenticate") for answer in answers] == [
        "Bearer",
        "Bearer",
        None,
    ]
    assert [problem["detail"] for problem in problems] == [
        'send `Authorization: Bearer` with a token for "read"',
        "the token is unknown",
        "the token 'ingest' has no scope \"read\"",
    ]


@pytest.mark.parametrize(
    "given",
    [
        "Bearer",
        "Bearer ",
        f"Basic {SECRET.format('read')}",
        f"Bearer {SECRET.format('read')}x",
        f"Bearer {SECRET.format('READ')}",
        "Bearer ünrecht",
        SECRET.format("read"),
    ],
)
async def test_a_header_that_is_not_quite_right(given: str) -> None:
    """A header that is not exactly `Bearer` and a secret opens nothing."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        answer = await client(runtime).get("/plugins", headers={"Authorization": given})
        assert answer.status_code == 401
        good = {"Authorization": f"bearer  {SECRET.format('read')}"}  # The scheme has no case.
        assert (await client(runtime).get("/plugins", headers=good)).status_code == 200


async def test_a_token_for_certain_events(autojump_clock: MockClock) -> None:
    """A token for certain events publishes these, by their names and as CloudEvents, and no other;
    of a batch with another one nothing is published."""
    events: list[object] = [
        {"specversion": "1.0", "id": str(n), "source": "x", "type": name, "data": {}}
        for n, name in enumerate(["order_placed", "refund"])
    ]
    batch, lines = "application/cloudevents-batch+json", "application/x-ndjson"
    async with open_plugins(Shop, tokens=[CLERK], event_types=[OrderPlaced, Refund]) as runtime:
        asking = client(runtime)

        async def post(path: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
            headers = {**bearer(CLERK.secret.reveal()), "Content-Type": kind}
            answer = await asking.post(path, data=json.dumps(body), headers=headers)
            return answer.status_code, await answer.get_json()

        assert (await post("/events/order_placed", {}))[0] == 202
        status, problem = await post("/events/refund", {})
        assert (status, problem["error_code"]) == (403, "forbidden")
        assert problem["detail"] == "the token 'clerk' is for order_placed only"
        assert (await post("/events/unknown", {}))[0] == 403
        assert (await post("/events", events, batch))[0] == 403
        assert (await post("/events", events[:1], batch))[0] == 202
        assert (await post("/events/refund", {}, lines))[0] == 403
        assert dict(runtime.unrouted) == {"order_placed": 2}


async def test_an_address_that_guesses_is_slowed_down(autojump_clock: MockClock) -> None:
    """After ten wrong tokens an address gets 429 with Retry-After, for the right token too; a token
    that came from there before goes on working, and so does every door that needs none."""
    known, new = bearer(SECRET.format("read")), bearer(SECRET.format("ingest"))
    async with open_plugins(Shop, tokens=TOKENS, event_types=[OrderPlaced]) as runtime:
        asking = client(runtime)
        assert (await asking.get("/plugins", headers=known)).status_code == 200
        with capture_logs() as logs:
            for _ in range(BURST):
                assert (await asking.get("/plugins", headers=bearer("x" * 20))).status_code == 401
            for headers in (bearer("x" * 20), new):
                answer = await asking.get("/plugins", headers=headers)
                assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
                assert (await answer.get_json())["error_code"] == "too_many_attempts"
        assert [line["event"] for line in logs].count("wrong token") == BURST
        assert (await asking.get("/plugins", headers=known)).status_code == 200
        assert (await asking.get("/livez", headers=bearer("x" * 20))).status_code == 200
        assert (await asking.get("/plugins")).status_code == 401
        form = {"token": SECRET.format("admin")}
        assert (await asking.post("/sign-in", form=form)).status_code == 429
        await trio.sleep(INTERVAL)
        answer = await asking.post("/events/order_placed", json={}, headers=new)
        assert answer.status_code == 202


async def test_the_log_has_the_tokens_name() -> None:
    """Each line of a request has the name of its token, and no line has a secret."""
    tokens = [
        *TOKENS[1:],
        TokenSettings(name="w", scopes=["read"], secret=Secret("of-another-reader")),
    ]
    async with open_plugins(Shop, tokens=tokens) as runtime:
        asking = client(runtime)
        seen: list[Any] = []
        with capture_logs(processors=[_contextvars]) as logs:
            for headers in (bearer("of-another-reader"), bearer(SECRET.format("read"))):
                await asking.get("/shop", headers=headers)
            await asking.post("/plugins/shop/restart", headers=bearer(SECRET.format("admin")))
            await asking.get("/shop", headers=bearer("wrong-" + "x" * 20))
            seen = [(line["event"], line.get("token")) for line in logs]
        assert ("somebody is in the shop", "w") in seen
        assert ("somebody is in the shop", "read") in seen
        assert ("plugin restarted by an operator", "admin") in seen
        assert ("wrong token", None) in seen
        assert not re.search("of-another-reader|of-the-token|wrong-x", str(logs))


def _contextvars(logger: object, method: str, event: Any) -> Any:
    from structlog.contextvars import merge_contextvars  # noqa: PLC0415 - as in `trivet serve`

    return merge_contextvars(logger, method, event)


async def test_a_route_of_an_embedder() -> None:
    """A route that a program of one's own adds to the application asks for `read`."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        app = create_app(runtime)

        @app.get("/mine")
        async def mine() -> str:
            return "mine"

        asking = app.test_client()
        assert (await asking.get("/mine")).status_code == 401
        headers = bearer(SECRET.format("read"))
        assert (await asking.get("/mine", headers=headers)).status_code == 200


async def test_a_websocket() -> None:
    """A websocket without the token for its scope is a 401, and opens with it."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        async with listening(runtime, "127.0.0.1:0") as (url,):
            for secret, expected in (("", 401), ("ingest", 403), ("read", 101)):
                header = b"Authorization: Bearer %s\r\n" % SECRET.format(secret).encode()
                request = UPGRADE % b"/news" + (header if secret else b"") + b"\r\n"
                answer = await ask(url, request.replace(b"Host: x", b"Host: localhost"), 1.0)
                assert status(answer) == expected


async def test_the_stop_is_no_way_round() -> None:
    """During a stop a request without its token is a 401 as before it."""
    async with open_plugins(Shop, tokens=TOKENS) as runtime:
        asking = client(runtime)
        runtime.begin_stop()
        assert (await asking.get("/plugins")).status_code == 401
        headers = bearer(SECRET.format("read"))
        assert (await asking.get("/plugins", headers=headers)).status_code == 200
        assert (await asking.get("/shop", headers=headers)).status_code == 503


async def test_doors_are_cheap_where_there_is_no_token() -> None:
    """Without tokens no header is looked at."""
    scope: Any = {"type": "http"}
    async with open_plugins(Shop) as runtime:
        assert Doors(runtime).caller_of(scope).token is None
