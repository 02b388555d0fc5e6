"""Doors that tokens open."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from quart import request, websocket
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    ConfigurationError,
    DefinitionError,
    Event,
    EventPlugin,
    Handler,
    LogSettings,
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
from trivet._web._page._files import read_files
from trivet.testing import client, open_plugins, serving

from .clients import UPGRADE, ask, read, status

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


class Till(EventPlugin[Refund]):
    async def handle_event(self, event: Refund) -> None:
        self.log.info("refunded")


DOORS: dict[str, tuple[str, str | None]] = {
    "GET /livez": ("/livez", None),
    "GET /startupz": ("/startupz", None),
    "GET /readyz": ("/readyz", None),
    "GET /plugins": ("/plugins", "read"),
    "GET /metrics": ("/metrics", "read"),
    "GET /openapi.json": ("/openapi.json", "read"),
    "GET /asyncapi.json": ("/asyncapi.json", "read"),
    "POST /events": ("/events", "ingest"),
    "POST /events/<name>": ("/events/order_placed", "ingest"),
    "GET /": ("/", None),
    "GET /-/": ("/-/", None),
    "GET /-/page/<version>/<name>": (f"/-/page/{read_files().version}/page.js", None),
    "GET /-/overview": ("/-/overview", "read"),
    "GET /-/live": ("/-/live", "read"),
    "GET /-/plugins": ("/-/plugins", "admin"),
    "GET /-/plugins/<name>": ("/-/plugins/shop", "admin"),
    "GET /-/plugins/<name>/log": ("/-/plugins/shop/log", "admin"),
    "GET /-/plugins/<name>/inbox": ("/-/plugins/till/inbox", "admin"),
    "GET /-/plugins/<name>/pages/<page>": ("/-/plugins/till/pages/drawer", "admin"),
    "POST /-/plugins/<name>/restart": ("/-/plugins/shop/restart", "admin"),
    "POST /-/plugins/<name>/disable": ("/-/plugins/shop/disable", "admin"),
    "POST /-/plugins/<name>/enable": ("/-/plugins/shop/enable", "admin"),
    "POST /-/plugins/<name>/pause": ("/-/plugins/till/pause", "admin"),
    "POST /-/plugins/<name>/resume": ("/-/plugins/till/resume", "admin"),
    "POST /-/plugins/<name>/log-level": ("/-/plugins/shop/log-level?level=debug", "admin"),
    "GET /-/dead-letters": ("/-/dead-letters", "admin"),
    "GET /-/dead-letters/<number>": ("/-/dead-letters/1", "admin"),
    "GET /-/events": ("/-/events", "admin"),
    "GET /-/tasks": ("/-/tasks", "admin"),
    "GET /-/stalls": ("/-/stalls", "admin"),
    "GET /-/stalls/<number>": ("/-/stalls/1", "admin"),
    "GET /-/diagnostics": ("/-/diagnostics", "admin"),
    "GET /-/tap": ("/-/tap", "admin"),
    "POST /-/restart": ("/-/restart", "admin"),
    "POST /-/dead-letters/replay": ("/-/dead-letters/replay?all=true", "admin"),
    "POST /-/dead-letters/purge": ("/-/dead-letters/purge?all=true", "admin"),
    "POST /-/reload": ("/-/reload", "admin"),
    "GET /-/settings": ("/-/settings", "admin"),
    "PATCH /-/settings": ("/-/settings", "admin"),
    "POST /-/plugins/<name>/reload": ("/-/plugins/shop/reload", "admin"),
    "GET /sign-in": ("/sign-in", None),
    "POST /sign-in": ("/sign-in", None),
    "POST /sign-out": ("/sign-out", None),
    "GET /shop": ("/shop", "read"),
    "POST /shop": ("/shop", "read"),
}
"""Every door but that of the websocket, with a path that leads to it and its scope."""
BEHIND = {
    "POST /-/plugins/<name>/log-level": (409, "order_refused"),  # The log is the tests' own.
    "GET /-/dead-letters/<number>": (404, "unknown_dead_letter"),
    "GET /-/plugins/<name>/pages/<page>": (404, "unknown_page"),
    "GET /-/stalls/<number>": (404, "unknown_stall"),
    "POST /-/plugins/<name>/reload": (409, "reload_refused"),  # The test made the settings.
    "POST /-/reload": (409, "reload_refused"),
    "PATCH /-/settings": (409, "settings_refused"),
}
"""The answers behind the doors that lead to nothing in these programs."""


def bearer(secret: str) -> dict[str, str]:
    """The headers of a request with a token."""
    return {"Authorization": f"Bearer {secret}"}


async def asked(
    runtime: Runtime, door: str, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """The status of the answer to a client at a door, and the error code if there is one."""
    method, path = door.partition(" ")[0], DOORS[door][0]
    headers = {"Content-Type": "application/json", **(headers or {})}
    data = None if method == "GET" else "{}"
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
    send = {"POST": asking.post, "PATCH": asking.patch}.get(method, asking.get)
    if path in ("/-/live", "/-/tap"):  # Their responses would last.
        send = asking.head
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


def test_the_document_has_every_door() -> None:
    """The table of doors in the documents has each route of Trivet's own, with its scope."""
    text = (Path(__file__).parents[3] / "docs" / "access.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z]+ /\S*)` \| (?:`(\w+)`|—) \|", text, re.MULTILINE)
    own = {door: scope or "" for door, (_, scope) in DOORS.items() if not door.endswith("/shop")}
    assert dict(rows) == own
    assert len(rows) == len(own)


async def agreed() -> bool:
    """Have a new program take over, in place of a parent process."""
    return True


@pytest.mark.parametrize("door", DOORS)
async def test_a_door_with_tokens(door: str, autojump_clock: MockClock) -> None:
    """A door is shut without the token for its scope, with a wrong one, and with each other one."""
    needed = DOORS[door][1]
    async with open_plugins(Shop, Till, tokens=TOKENS, event_types=[OrderPlaced]) as runtime:
        runtime.replace = agreed
        without, wrong = await asked(runtime, door), await asked(runtime, door, bearer("x" * 20))
        if needed is None:
            assert without == wrong
            assert without[1] in ("", "too_many_attempts", "not_ready")
            return
        assert without == wrong == (401, "unauthorized")
        for token in TOKENS:
            status, code = await asked(runtime, door, bearer(token.secret.reveal()))
            if needed in token.scopes:
                assert (status, code) == BEHIND.get(door, (status, ""))
                assert door in BEHIND or status < 300
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
        for headers in (bearer("x" * 20), new):  # No other check tells the right one.
            for more in ({"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                answer = await asking.post("/events/refund", headers={**headers, **more})
                assert answer.status_code in (421, 403)
                assert (await answer.get_json())["error_code"] in ("wrong_host", "cross_site")
        assert (await asking.get("/plugins", headers=known)).status_code == 200
        assert (await asking.get("/livez", headers=bearer("x" * 20))).status_code == 200
        assert (await asking.get("/plugins")).status_code == 401
        form = {"token": SECRET.format("admin")}
        assert (await asking.post("/sign-in", form=form)).status_code == 429
        await trio.sleep(INTERVAL)
        answer = await asking.post("/events/order_placed", json={}, headers=new)
        assert answer.status_code == 202


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/plugins", {"Host": "evil.example"}),
        ("/nowhere", {"Host": "evil.example"}),
        ("/events/refund", {"Sec-Fetch-Site": "cross-site"}),
        ("/sign-in", {"Sec-Fetch-Site": "cross-site"}),
    ],
)
async def test_no_other_refusal_is_a_way_to_guess(
    path: str, more: dict[str, str], autojump_clock: MockClock
) -> None:
    """A wrong token counts as wrong also where the host or the site is the reason of the refusal,
    which the right token would have avoided."""
    async with open_plugins(Shop, tokens=TOKENS, event_types=[OrderPlaced]) as runtime:
        asking = client(runtime)
        for _ in range(BURST):
            answer = await asking.post(path, headers={**bearer("x" * 20), **more})
            assert answer.status_code in (421, 403)
        right = bearer(SECRET.format("ingest"))
        assert (await asking.post(path, headers={**right, **more})).status_code in (421, 403)
        assert (await asking.get("/plugins", headers=right)).status_code == 429
        await trio.sleep(INTERVAL)
        assert (await asking.get("/plugins", headers=right)).status_code == 403


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
            await asking.post("/-/plugins/shop/restart", headers=bearer(SECRET.format("admin")))
            await asking.get("/shop", headers=bearer("wrong-" + "x" * 20))
            seen = [(line["event"], line.get("token")) for line in logs]
        assert ("somebody is in the shop", "w") in seen
        assert ("somebody is in the shop", "read") in seen
        assert ("an operator has acted", "admin") in seen
        assert ("wrong token", None) in seen
        assert not re.search("of-another-reader|of-the-token|wrong-x", str(logs))


async def test_each_request_is_a_line() -> None:
    """At the level `debug` each request is a line with its route, status, client and token, on the
    short way too; no line has a path or a secret."""
    settings: Any = {"tokens": TOKENS[1:2], "log": LogSettings(level="debug")}
    own, stranger = f"Authorization: Bearer {SECRET.format('read')}", "X-Nothing: x"
    with capture_logs(processors=[_contextvars]) as logs:
        async with open_plugins(Shop, event_types=[OrderPlaced], **settings) as runtime:
            async with serving(runtime) as url:
                for header in (own, stranger):
                    await sent(url, "GET", "/shop?token=of-a-careless-client", header)
                await ask(url, written("POST", "/events/order_placed").replace(b"close", b"x"), 2.0)
                await sent(url, "GET", "/nothing/of-a-careless-client", own)
                await sent(url, "websocket", "/news", own)
    lines = [line for line in logs if line["event"] == "request"]
    assert [(line["route"], line["status"], line.get("token")) for line in lines] == [
        ("GET:/shop", 200, "read"),
        ("GET:/shop", 401, None),
        ("POST:/events/{name}", 202, None),
        ("GET:unmatched", 404, "read"),
        ("websocket:/news", 101, "read"),
    ]
    assert {line["client"] for line in lines} == {"127.0.0.1"}
    assert not re.search("of-a-careless-client|of-the-token", str(logs))


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
                answer = await ask(url, request, 1.0)
                assert status(answer) == expected


class Pages(BackgroundPlugin):
    """Routes of each scope, and public ones."""

    @route("/public", methods=["GET", "POST"], scope=None)
    async def public(self) -> str:
        return "public"

    @route("/callback", methods=["GET", "POST"], scope="ingest")
    async def callback(self) -> str:
        return str(len(await request.get_data()))

    @route("/reset", scope="admin")
    class Reset(Handler["Pages"]):
        """A handler class with a scope."""

        async def post(self) -> str:
            return "reset"

    @websocket_route("/open", scope=None)
    async def opened(self) -> None:
        await websocket.send("open")

    @websocket_route("/control", scope="admin")
    async def control(self) -> None:
        await websocket.send("control")


PAGES = {
    ("GET", "/public"): None,
    ("POST", "/public"): None,
    ("GET", "/callback"): "ingest",
    ("POST", "/callback"): "ingest",
    ("POST", "/reset"): "admin",
    ("websocket", "/open"): None,
    ("websocket", "/control"): "admin",
}


def written(method: str, path: str, *headers: str, host: str = "localhost") -> bytes:
    """A request, or a handshake, as bytes."""
    if method == "websocket":
        request = (UPGRADE % path.encode()).replace(b"localhost", host.encode())
        return request + "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n"
    length = ["Content-Length: 2", "Content-Type: application/json"] if method == "POST" else []
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *length, *headers]
    return "\r\n".join([*lines, "", "{}" if method == "POST" else ""]).encode()


async def sent(url: str, method: str, path: str, *headers: str, host: str = "localhost") -> int:
    """The status of the answer to a request, or to a handshake."""
    return status(await ask(url, written(method, path, *headers, host=host), 2.0))


@pytest.mark.parametrize(("method", "path"), PAGES)
async def test_a_plugins_route_says_what_it_asks_for(method: str, path: str) -> None:
    """A route asks for its scope; a public one answers everybody; a token for certain events
    opens no route."""
    needed = PAGES[method, path]
    tokens = [*TOKENS, CLERK]
    async with open_plugins(Pages, tokens=tokens, event_types=[OrderPlaced]) as runtime:
        async with serving(runtime) as url:
            assert (await sent(url, method, path) == 401) == (needed is not None)
            for token in tokens:
                header = f"Authorization: Bearer {token.secret.reveal()}"
                opens = needed in (None, *token.scopes) and not (needed and token is CLERK)
                got = await sent(url, method, path, header)
                assert got == (403 if not opens else 101 if method == "websocket" else 200)


async def test_the_list_of_routes_shows_the_public_ones() -> None:
    """`GET /plugins` has each route with its scope, or that it is public."""
    async with open_plugins(Pages) as runtime:
        document: Any = await (await client(runtime).get("/plugins")).get_json()
    routes = document["plugins"]["pages"]["routes"]
    assert {"path": "/public", "methods": ["GET", "POST"], "scope": "public"} in routes
    assert {"path": "/control", "methods": ["websocket"], "scope": "admin"} in routes
    assert {(verb, route["path"]) for route in routes for verb in route["methods"]} == {*PAGES}


async def test_an_unknown_scope_is_refused_where_it_is_written() -> None:
    """A misspelt scope is a fault of the class."""
    for decorator in (route, websocket_route):
        with pytest.raises(DefinitionError, match=r"no scope is named 'raed'; did you mean 'read'"):
            decorator("/x", scope="raed")  # type: ignore[arg-type]


EVIL = "evil.example"
ASKED = [("POST", "/events/order_placed"), ("GET", "/plugins"), ("GET", "/shop"), ("POST", "/shop"),
         ("websocket", "/news"), ("GET", "/nothing"), ("GET", "/sign-in")]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_a_name_that_leads_here_is_no_name_of_the_service(method: str, path: str) -> None:
    """A request that names another host is a 421, even as its own origin, unless it has a token in
    its header, or the operator has named the host."""
    own = (f"Origin: http://{EVIL}", "Sec-Fetch-Site: same-origin")
    async with open_plugins(Shop, event_types=[OrderPlaced]) as runtime, serving(runtime) as url:
        for host in (EVIL, f"{EVIL}:8080", "localhost.evil.example", "192.0.2.1", ""):
            assert await sent(url, method, path, *own, host=host) == 421
        for host in ("localhost", "127.0.0.1:1", "[::1]", "[::ffff:127.0.0.1]", "LOCALHOST."):
            assert await sent(url, method, path, host=host) in (101, 200, 202, 404)
    settings: Any = {"allowed_hosts": [EVIL]}
    async with open_plugins(Shop, event_types=[OrderPlaced], **settings) as runtime:
        async with serving(runtime) as url:
            assert await sent(url, method, path, *own, host=EVIL) in (101, 200, 202, 404)
    async with open_plugins(Shop, event_types=[OrderPlaced], tokens=TOKENS) as runtime:
        async with serving(runtime) as url:
            for scope in ("ingest", "read"):
                header = f"Authorization: Bearer {SECRET.format(scope)}"
                assert await sent(url, method, path, header, host=EVIL) != 421
            header = "Authorization: Bearer of-nobody-at-all"
            assert await sent(url, method, path, header, host=EVIL) == 421


async def test_a_session_does_not_vouch_for_a_host() -> None:
    """A cookie, which a browser sends by itself, opens nothing under another host, nor to a page
    of another site."""
    async with open_plugins(Pages, Shop, tokens=TOKENS) as runtime, serving(runtime) as url:
        form = f"token={SECRET.format('admin')}".encode()
        head = "POST /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}"
        answer = await ask(url, head.encode() + b"\r\n\r\n" + form)
        found = re.search(rb"trivet_session=[^;]+", answer)
        assert found is not None
        cookie = f"Cookie: {found[0].decode()}"
        assert await sent(url, "POST", "/reset", cookie) == 200
        assert await sent(url, "POST", "/reset", cookie, host=EVIL) == 421
        for header in ("Sec-Fetch-Site: same-site", f"Origin: http://{EVIL}"):
            assert await sent(url, "POST", "/reset", cookie, header) == 403
            assert await sent(url, "websocket", "/control", cookie, header) == 403
        assert await sent(url, "websocket", "/control", cookie, "Origin: http://localhost") == 101


async def test_probes_answer_whatever_the_host() -> None:
    """A kubelet asks by the pod's address, and gets the probes, but nothing else."""
    async with open_plugins(Shop) as runtime, serving(runtime) as url:
        for path in ("/livez", "/readyz"):
            for method in ("GET", "HEAD"):
                assert await sent(url, method, path, host="10.1.2.3:8080") == 200
        assert await sent(url, "GET", "/livez/more", host="10.1.2.3:8080") == 421


async def test_a_client_of_old_names_its_host_too() -> None:
    """A request of HTTP/1.0 without a `Host` is a 421 as well, but for the probes."""
    async with open_plugins(Shop) as runtime, serving(runtime) as url:
        for path, expected in (("/livez", 200), ("/plugins", 421), ("/shop", 421)):
            answer = await ask(url, f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert status(answer) == expected
        assert b"the request names no `Host`" in answer


CROSS = [
    ("Sec-Fetch-Site: cross-site", f"Origin: http://{EVIL}"),
    ("Sec-Fetch-Site: same-site", "Origin: http://localhost:3000"),
    (f"Origin: http://{EVIL}",),
    ("Origin: null",),
    ("Origin: http://localhost:3000",),
    ("Origin: http://127.0.0.1:3000",),  # The host of the bind, and the port of another program.
    ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"),
    ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"),
    (f"Origin: http://{EVIL}", "Origin: http://localhost"),
]


@pytest.mark.parametrize("headers", CROSS)
async def test_pages_of_other_sites_change_nothing(headers: tuple[str, ...]) -> None:
    """A page of another site cannot publish, ask for a change, sign in or out, nor connect; a
    public route is its author's affair, and a token in the header is no page's."""
    async with open_plugins(Shop, Pages, event_types=[OrderPlaced]) as runtime:
        async with serving(runtime) as url:
            for method, path in (
                ("POST", "/events/order_placed"),
                ("POST", "/events"),
                ("POST", "/shop"),
                ("POST", "/callback"),
                ("POST", "/sign-in"),
                ("POST", "/sign-out"),
                ("POST", "/-/plugins/shop/restart"),
                ("websocket", "/news"),
            ):
                assert (path, await sent(url, method, path, *headers)) == (path, 403)
            assert await sent(url, "POST", "/public", *headers) == 200
            assert await sent(url, "websocket", "/open", *headers) == 101
            assert await sent(url, "GET", "/shop", *headers) == 200
            assert dict(runtime.unrouted) == {}
    async with open_plugins(Shop, tokens=TOKENS) as runtime, serving(runtime) as url:
        header = f"Authorization: Bearer {SECRET.format('read')}"
        assert await sent(url, "POST", "/shop", header, *headers) == 200


async def test_own_pages_and_programs_are_let_in() -> None:
    """A page of the service's own and a client that is no browser publish and connect."""
    async with open_plugins(Shop, event_types=[OrderPlaced]) as runtime:
        async with serving(runtime) as url:
            authority = url.removeprefix("http://")
            for headers in (
                (),
                ("Sec-Fetch-Site: same-origin", f"Origin: {url}"),
                ("Sec-Fetch-Site: none",),
                (f"Origin: {url}",),
            ):
                for method, path, expected in (
                    ("POST", "/events/order_placed", 202),
                    ("websocket", "/news", 101),
                ):
                    assert await sent(url, method, path, *headers, host=authority) == expected


async def test_another_application_around_this_one() -> None:
    """Mounted below a path, scopes, hosts and sites hold as at the root."""
    async with open_plugins(Shop, tokens=TOKENS, event_types=[OrderPlaced]) as runtime:
        app = create_app(runtime)

        async def mounted(method: str, path: str, **headers: str) -> int:
            sent: list[Any] = []

            async def send(message: Any) -> None:
                sent.append(message)

            async def receive() -> Any:
                if sent:
                    await trio.sleep_forever()
                return {"type": "http.request", "body": b"{}", "more_body": False}

            given = {"host": "localhost", "content-type": "application/json", **headers}
            scope: Any = {
                "type": "http",
                "http_version": "1.1",
                "scheme": "http",
                "method": method,
                "root_path": "/below",
                "path": f"/below{path}",
                "raw_path": f"/below{path}".encode(),
                "query_string": b"",
                "headers": [
                    (name.replace("_", "-").encode(), value.encode())
                    for name, value in given.items()
                ],
            }
            with trio.fail_after(5):
                await app(scope, receive, send)
            return int(sent[0]["status"])

        good = f"Bearer {SECRET.format('ingest')}"
        event = "/events/order_placed"
        assert await mounted("GET", "/livez", host="10.0.0.1") == 200
        assert await mounted("POST", event) == 401
        assert await mounted("POST", event, authorization=good) == 202
        assert await mounted("POST", event, host=EVIL) == 421
        assert await mounted("POST", event, origin=f"http://{EVIL}") == 403
        assert await mounted("GET", "/shop", authorization=good) == 403
        assert await mounted("GET", "/plugins") == 401


async def test_a_start_without_tokens_under_another_server_is_a_warning() -> None:
    """An application for somebody else's server says once that there are no tokens."""
    cases: list[Any] = [([], 1), (TOKENS, 0)]
    for tokens, expected in cases:
        async with open_plugins(Shop, tokens=tokens) as runtime:
            with capture_logs() as logs:
                create_app(runtime)
        assert [line["log_level"] for line in logs] == ["warning"] * expected


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0"])
async def test_an_address_that_others_reach_needs_a_token(bind: str) -> None:
    """Without tokens the server refuses such an address, unless the operator insists; then it says
    so. With a token it serves, and a scope without one is shut."""
    with pytest.raises(ConfigurationError, match=r"no tokens: write \[\[tokens\]\]"):
        async with open_plugins(Shop) as runtime, listening(runtime, bind):
            pass
    async with open_plugins(Shop, insecure=True) as runtime:
        with capture_logs() as logs:
            async with listening(runtime, bind) as (url,):
                at = url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "127.0.0.1")
                assert await sent(at, "GET", "/shop") == 200
        assert [line["log_level"] for line in logs if "insecure" in line["event"]] == ["warning"]
    async with open_plugins(Shop, tokens=TOKENS[2:], event_types=[OrderPlaced]) as runtime:
        async with listening(runtime, bind) as (url,):
            at = url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "127.0.0.1")
            assert await sent(at, "GET", "/shop") == 403
            assert await sent(at, "POST", "/events/order_placed") == 403
            assert await sent(at, "GET", "/livez") == 200


async def test_a_unix_socket_needs_no_token(tmp_path: Path) -> None:
    """A Unix socket is for whom its directory lets in: without tokens all but administration is
    open there."""
    path = tmp_path / "socket"
    async with open_plugins(Shop) as runtime, listening(runtime, f"unix:{path}"):
        for request, expected in ((written("GET", "/shop"), 200), (written("POST", "/shop"), 200)):
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(request)
                assert status(await read(stream)) == expected


async def connect_from(source: str, address: str) -> trio.SocketStream:
    """Connect from an address of this machine."""
    port = int(address.rpartition(":")[2])
    connected = trio.socket.socket()
    await connected.bind((source, 0))
    await connected.connect(("127.0.0.1", port))
    return trio.SocketStream(connected)


async def test_one_address_does_not_take_all_connections() -> None:
    """An address with its number of connections open gets 503 for one more, while others are
    served; it is served again when one of them has ended."""
    async with open_plugins(Shop, max_connections_per_address=2) as runtime:
        async with serving(runtime) as address:
            held = [await connect_from("127.0.0.2", address) for _ in range(2)]
            for stream in held:
                await stream.send_all(b"GET / HTTP/1.1\r\n")
            async with await connect_from("127.0.0.2", address) as stream:
                answer = await read(stream)
            assert status(answer) == 503
            assert b"\r\nRetry-After: 1\r\n" in answer
            assert b"from this address" in answer
            assert await sent(address, "GET", "/shop") == 200
            for stream in held:
                await stream.aclose()
            with trio.fail_after(60):
                while status(answer) != 200:
                    async with await connect_from("127.0.0.2", address) as stream:
                        await stream.send_all(written("GET", "/shop"))
                        answer = await read(stream)


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
