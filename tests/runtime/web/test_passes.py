"""Requests with tokens at Trivet's own server: by their shortcuts, and through the layers."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import count
from typing import Any

import pytest
import structlog
import trio
from quart import request

from trivet import (
    BackgroundPlugin,
    Event,
    EventPlugin,
    Runtime,
    Secret,
    TokenSettings,
    listening,
    route,
)
from trivet._access._attempts import BURST
from trivet._events import _delivery
from trivet._web._context import current_context
from trivet._web._server._known_heads import KnownHeads
from trivet.testing import open_plugins, serving

from ..reload.programs import Files
from .clients import connect, get, status, until
from .ways import Taken, uniform

SECRETS = {
    name: f"of-the-{name}-in-the-shop"
    for name in ("all", "reader", "clerk", "slow", "slower", "old", "new")
}
TOKENS: Any = [
    TokenSettings(name="all", scopes=["ingest", "read"], secret=Secret(SECRETS["all"])),
    TokenSettings(name="reader", scopes=["read"], secret=Secret(SECRETS["reader"])),
    TokenSettings(
        name="clerk", scopes=["ingest"], events=["ordered"], secret=Secret(SECRETS["clerk"])
    ),
    TokenSettings(
        name="slow", scopes=["ingest", "read"], rate=0.001, secret=Secret(SECRETS["slow"])
    ),
    TokenSettings(name="slower", scopes=["read"], rate=0.0005, secret=Secret(SECRETS["slower"])),
]
READERS: Any = [TOKENS[1], TOKENS[4]]
"""Tokens for reading alone: to publish needs none."""


class Ordered(Event):
    number: int = 0


class Refunded(Event):
    number: int = 0


class Shop(BackgroundPlugin):
    @route("/around")
    async def around(self) -> dict[str, object]:
        """Everything that a request makes known."""
        caller = current_context().caller
        token = None if caller.token is None else caller.token.name
        return {
            "token": token,
            "address": caller.address,
            **structlog.contextvars.get_contextvars(),
        }

    @route("/asks")
    async def asks(self) -> dict[str, object]:
        """The request as a handler of Quart's sees it."""
        return {"client": request.remote_addr, "host": request.host, "scheme": request.scheme}

    @route("/waits")
    async def waits(self) -> dict[str, object]:
        await trio.sleep(0.001)
        return await self.around()

    @route("/hook", scope="ingest", methods=["POST"])
    async def hook(self) -> dict[str, object]:
        return await self.around()

    @route("/public", scope=None)
    async def public(self) -> dict[str, object]:
        return await self.around()

    @route("/admin", scope="admin")
    async def admin(self) -> str:
        return "admin"


class Anything(BackgroundPlugin):
    @route("/<path:rest>")
    async def anything(self, rest: str) -> str:
        return rest


class Till(EventPlugin[Ordered | Refunded]):
    async def handle_event(self, event: Ordered | Refunded) -> None:
        """Do nothing."""


def bearer(name: str, form: bytes = b"Authorization: Bearer %b") -> bytes:
    """The header with a token; a wrong one for a name that no token has."""
    return form % SECRETS.get(name, name.ljust(20, "x")).encode()


def asking(token: str, path: bytes = b"/around", *more: bytes) -> bytes:
    """A request for a route."""
    return get(path, bearer(token), *more)


def post(token: str, event: bytes = b"ordered", *more: bytes, body: bytes = b"{}") -> bytes:
    """A request to publish an event."""
    kind, length = b"Content-Type: application/json", b"Content-Length: %d" % len(body)
    return get(b"/events/" + event, kind, length, bearer(token), *more).replace(b"GET", b"POST") + (
        body
    )


def elsewhere(request: bytes) -> bytes:
    """A request under another host."""
    return request.replace(b"Host: localhost", b"Host: evil.example")


WRONG = [post("wrong")] * BURST
CASES: dict[str, tuple[list[bytes], list[int], int]] = {
    "right": ([asking("all"), post("all"), asking("all")], [200, 202, 200], 3),
    "wrong": ([post("wrong"), asking("wrong"), post("all")], [401, 401, 202], 1),
    "none": ([get(b"/around"), get(b"/public")], [401, 200], 1),
    "empty": ([get(b"/around", b"Authorization: Bearer")], [401], 0),
    "the scope is too small": ([post("reader"), asking("clerk")], [403, 403], 0),
    "a scope that no token has": ([asking("all", b"/admin")], [403], 0),
    "certain events": (
        [post("clerk"), post("clerk", b"refunded"), post("clerk"), post("clerk", b"nothing")],
        [202, 403, 202, 403],
        2,
    ),
    "certain events, and a route": (
        [asking(name, b"/hook").replace(b"GET", b"POST") for name in ("clerk", "all")],
        [403, 200],
        1,
    ),
    "two tokens by turns": (
        [request for _ in range(3) for request in (asking("all"), asking("reader"))],
        [200] * 6,
        6,
    ),
    "a token, then none": ([asking("all"), get(b"/public"), get(b"/around")], [200, 200, 401], 2),
    "a token where none is needed": ([asking("all", b"/public")], [200], 1),
    "a wrong one where none is needed": ([asking("wrong", b"/public")], [200], 0),
    "rate": ([asking("slow"), post("slow"), asking("slow")], [200, 429, 429], 1),
    "rate of events": ([post("slow"), post("slow")], [202, 429], 1),
    "a public route is not counted": (
        [asking("slow", b"/public"), asking("slow", b"/public"), asking("slow"), asking("slow")],
        [200, 200, 200, 429],
        3,
    ),
    "a faulty event is counted": ([post("slow", body=b"{"), post("slow")], [400, 429], 0),
    "a handler that waits is counted once": (
        [asking("slow", b"/waits"), asking("slow"), asking("all", b"/waits")],
        [200, 429, 200],
        0,
    ),
    "another host": (
        [elsewhere(asking("all")), elsewhere(post("all")), elsewhere(post("wrong"))],
        [200, 202, 421],
        2,
    ),
    "no host": ([asking("all").replace(b"Host: localhost", b"Host:")], [200], 1),
    "a host that is none": ([asking("all").replace(b"Host: localhost", b"Host: a b")], [400], 0),
    "another site": (
        [
            post(token, b"ordered", header)
            for token in ("all", "wrong")
            for header in (b"Sec-Fetch-Site: cross-site", b"Origin: http://evil.example")
        ],
        [202, 202, 403, 403],
        2,
    ),
    "forms of the header": (
        [
            get(b"/around", bearer("all", form))
            for form in (
                b"authorization: bearer %b",
                b"AUTHORIZATION:BEARER   %b  ",
                b"Authorization: Basic %b",
                b"Authorization: Bearer%b",
                b"Authorization: Bearer \t%b",
            )
        ],
        [200, 200, 401, 401, 200],
        3,
    ),
    "two headers": (
        [
            get(b"/around", bearer("all"), bearer("wrong")),
            get(b"/around", bearer("wrong"), bearer("all")),
            get(b"/around", b"Authorization: Basic x", bearer("all")),
        ],
        [200, 401, 200],
        1,
    ),
    "a cookie beside it": (
        [
            asking("all", b"/around", b"Cookie: trivet_session=x"),
            get(b"/around", b"Cookie: trivet_session=x"),
        ],
        [200, 401],
        1,
    ),
    "slowed down": ([*WRONG, post("wrong"), post("all")], [401] * BURST + [429, 429], 0),
    "slowed down, and known": (
        [asking("all"), *WRONG, asking("all"), post("all"), asking("reader")],
        [200, *[401] * BURST, 200, 202, 429],
        3,
    ),
    "an open door shows no secret": (
        [asking("all", b"/public"), *WRONG, asking("all", b"/public"), asking("all")],
        [200, *[401] * BURST, 200, 429],
        1,
    ),
}
OPEN_CASES: dict[str, tuple[list[bytes], list[int], int]] = {
    "a token where its scope is not asked for": ([post("reader"), post("wrong")], [202, 202], 1),
    "rate": ([post("slower"), post("slower"), asking("slower")], [202, 429, 429], 1),
    "no proof of the secret": (
        [post("reader"), *[asking("wrong")] * BURST, post("reader"), asking("reader")],
        [202, *[401] * BURST, 202, 429],
        1,
    ),
}


def by(*clients: str) -> bytes:
    """The header of a chain of proxies."""
    return b"X-Forwarded-For: " + ", ".join(clients).encode()


PROXY_CASES: dict[str, tuple[list[bytes], list[int], int]] = {
    "clients": (
        [
            asking("all", b"/asks", *more)
            for more in (
                [],
                [by("192.0.2.7")],
                [by("203.0.113.9", "192.0.2.7")],
                [by("192.0.2.7", "127.0.0.9")],
                [by("192.0.2.7", "127.0.0.9"), b"X-Forwarded-Proto: https, http"],
                [by("unknown")],
                [by("[2001:db8::1]:81")],
                [b"Forwarded: for=192.0.2.7"],
                [by("192.0.2.7"), b"X-Forwarded-Proto: https", b"X-Forwarded-Host: localhost"],
            )
        ],
        [200] * 9,
        9,
    ),
    "another host, and a token": (
        [
            asking("all", b"/asks", by("192.0.2.7"), b"X-Forwarded-Host: shop.example"),
            get(b"/public", b"X-Forwarded-Host: localhost"),
            asking("all", b"/asks", b"X-Forwarded-Host: a b"),
        ],
        [200, 200, 400],
        1,
    ),
    "another host": (
        [get(b"/public"), get(b"/public", b"X-Forwarded-Host: evil.example")],
        [200, 421],
        1,
    ),
    "another host of the proxy": (
        [get(b"/public"), elsewhere(get(b"/public", b"X-Forwarded-Host: localhost"))],
        [200, 421],
        1,
    ),
    "one client that guesses": (
        [
            asking("all", b"/around", by("192.0.2.7")),
            *[post("wrong", b"ordered", by("192.0.2.7"))] * BURST,
            asking("all", b"/around", by("192.0.2.7")),
            asking("reader", b"/around", by("192.0.2.7")),
            asking("reader", b"/around", by("192.0.2.8")),
            asking("reader"),
            post("all", b"ordered", by("192.0.2.9, 192.0.2.7")),
            post("clerk", b"ordered", by("192.0.2.9, 192.0.2.7")),
        ],
        [200, *[401] * BURST, 200, 429, 200, 200, 202, 429],
        5,
    ),
    "handlers that wait": (
        [asking("all", path, by("192.0.2.7")) for path in (b"/waits", b"/waits")],
        [200, 200],
        0,
    ),
}
"""Requests through a proxy at a loopback address, or from a client that is taken for one."""


async def shown(
    requests: list[bytes], program: dict[str, Any]
) -> tuple[list[bytes], list[tuple[object, ...]], dict[str, int], list[str]]:
    """Everything that a program shows of these requests, which come over one connection."""
    async with open_plugins(Shop, Till, event_types=[Ordered, Refunded], **program) as runtime:
        with structlog.testing.capture_logs() as logs:
            async with serving(runtime) as url, await connect(url) as stream:
                await stream.send_all(b"".join(requests))
                await stream.send_eof()
                got = uniform(b"".join([data async for data in stream]))
        handled = Counter({name: each.handled for name, each in runtime.statistics().items()})
    told = [(log["event"], log.get("route"), log.get("error")) for log in logs]
    return got.split(b"HTTP/1.1 ")[1:], [*told], handled, sorted(runtime.unrouted)


async def compared(
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[list[bytes], list[int], int],
    **program: Any,
) -> None:
    """Compare both ways of a conversation."""
    requests, statuses, answers = case
    with monkeypatch.context() as patch:
        patch.setattr(_delivery, "_numbers", count(1000))
        short = Taken(patch, short=True)
        found = await shown(requests, program)
    with monkeypatch.context() as patch:
        patch.setattr(_delivery, "_numbers", count(1000))
        Taken(patch, short=False)
        expected = await shown(requests, program)
    assert found == expected
    if statuses:
        assert [int(each[:3]) for each in expected[0]] == statuses
        assert len(short.answers) == answers
    else:
        assert short.answers or short.begun


@pytest.mark.parametrize("case", CASES)
async def test_a_token_is_not_to_be_told_from_the_layers(
    monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Responses, logs and effects of a conversation are the same on both ways."""
    await compared(monkeypatch, CASES[case], tokens=TOKENS)


@pytest.mark.parametrize("case", OPEN_CASES)
async def test_a_token_at_an_open_door(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """A token counts also where none is needed, and does not become known there."""
    await compared(monkeypatch, OPEN_CASES[case], tokens=READERS)


@pytest.mark.parametrize("trusted", [["127.0.0.0/8"], ["10.0.0.0/8"]], ids=["trusted", "not"])
@pytest.mark.parametrize("case", PROXY_CASES)
async def test_a_request_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, case: str, trusted: list[str]
) -> None:
    """A proxy's word about its client is the same on both ways, and so is another client's."""
    requests, statuses, answers = PROXY_CASES[case]
    if not trusted[0].startswith("127"):
        statuses, answers = list[int](), -1  # Each has an answer of its own there.
    program = {"tokens": TOKENS, "trusted_proxies": trusted}
    await compared(monkeypatch, (requests, statuses, answers), **program)


@pytest.mark.parametrize("tokens", [[], TOKENS], ids=["open", "tokens"])
async def test_the_rate_of_a_type(monkeypatch: pytest.MonkeyPatch, tokens: Any) -> None:
    """Events of a type are counted once on either way, and refused beyond its rate."""
    faulty = post("all", body=b"{")
    case = [faulty, post("all"), post("all"), post("all", b"refunded"), post("all")]
    await compared(
        monkeypatch,
        (case, [400, 202, 429, 202, 429], 2),
        tokens=tokens,
        event_rates={"ordered": 0.001},
    )


@pytest.mark.parametrize("tokens", [[], TOKENS], ids=["open", "tokens"])
async def test_a_route_for_everything(tokens: Any) -> None:
    """The paths of management and the others are unknown at each other's address, also where a
    plugin has a route for all of them."""
    async with (
        open_plugins(Anything, tokens=tokens, event_types=[Ordered]) as runtime,
        listening(runtime, "127.0.0.1:0", management_bind="127.0.0.1:0") as urls,
    ):
        for path, expected in ((b"/-/mine", [404, 200]), (b"/mine", [200, 404])):
            found: list[int] = []
            for url in urls:
                async with await connect(url) as stream:
                    await stream.send_all(asking("all", path))
                    found.append(status(await until(stream, b"\r\n\r\n")))
            assert found == expected


class Talk:
    """A conversation over one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def answer(self, request: bytes) -> bytes:
        """The response to a request."""
        await self._stream.send_all(request)
        return await until(self._stream, b"}")

    async def status(self, request: bytes) -> int:
        """The status of a response."""
        return status(await self.answer(request))


@pytest.mark.real_time
async def test_a_reload_of_tokens_in_the_middle_of_a_connection(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token may do what the settings say from the reload on, over the same connection: it is
    narrowed, limited, exchanged for another, and no head with the old one is kept."""
    files = Files(tmp_path)
    short = Taken(monkeypatch, short=True)
    files.plugin(
        "shop",
        """
        class Ordered(Event):
            number: int = 0

        class Refunded(Event):
            number: int = 0

        class Shop(BackgroundPlugin):
            @route("/around")
            async def around(self) -> dict[str, int]:
                return {}
        """,
    )

    def write(secret: str, scopes: str = '"ingest", "read"', more: str = "") -> None:
        files.settings(
            f'active_plugins = ["shop"]\n[[tokens]]\nname = "changing"\nscopes = [{scopes}]\n'
            f'secret = "{SECRETS[secret]}"\n{more}'
        )

    write("old")
    async with (
        files.running() as (runtime, reloader),
        listening(runtime, "127.0.0.1:0", management_bind="127.0.0.1:0") as urls,
        await connect(urls[0]) as stream,
        await connect(urls[1]) as managing,
    ):
        talk, at_management = Talk(stream), Talk(managing)

        async def statuses(token: str) -> tuple[int, int]:
            return await talk.status(asking(token)), await talk.status(post(token))

        for _ in range(2):
            assert await statuses("old") == (200, 202)
        assert await at_management.status(asking("old", b"/plugins")) == 200
        assert len(short.answers) == 4
        write("old", more="rate = 0.001")
        await reloader.reload()
        assert await statuses("old") == (200, 429)
        write("old", more='rate = 0.001\nevents = ["ordered"]')
        await reloader.reload()  # The token is another one, and so is its account.
        assert await statuses("old") == (200, 429)
        write("old", more='events = ["refunded"]')
        await reloader.reload()
        assert await statuses("old") == (200, 403)
        write("old", '"ingest"')
        await reloader.reload()
        assert await talk.status(post("old")) == 202
        assert await talk.status(get(b"/around", bearer("old"))) == 200  # To read needs none now.
        write("new")
        await reloader.reload()
        assert await statuses("old") == (401, 401)
        assert await statuses("new") == (200, 202)
        assert kept("old") == []
        assert kept("new") != []


def kept(name: str) -> list[bytes]:
    """The heads with a token that are kept in memory."""
    heads = [each for each in gc.get_objects() if isinstance(each, KnownHeads)]
    known: list[dict[tuple[bytes, str], object]] = [vars(each)["_known"] for each in heads]
    return [data for each in known for data, _ in each if SECRETS[name].encode() in data]


async def test_connections_have_addresses_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same head from another address is another client's, which may have to wait."""
    short = Taken(monkeypatch, short=True)
    async with open_plugins(Shop, tokens=TOKENS, event_types=[Ordered]) as runtime:
        assert await first_statuses(runtime) == [[200, 401], [200], [200, 429]]
    assert len(short.answers) == 3


async def first_statuses(runtime: Runtime) -> list[list[int]]:
    """A known address that guesses, another one, and the first one again."""
    conversations = [
        ("127.0.0.1", [asking("all"), *WRONG]),
        ("127.0.0.2", [asking("all")]),
        ("127.0.0.1", [asking("all"), asking("reader")]),
    ]
    found: list[list[int]] = []
    async with serving(runtime) as url:
        host, _, port = url.rpartition("//")[2].partition(":")
        for address, requests in conversations:
            connected = trio.socket.socket()
            await connected.bind((address, 0))
            await connected.connect((host, int(port)))
            async with trio.SocketStream(connected) as stream:
                talk = Talk(stream)
                got = [await talk.answer(request) for request in requests]
                found.append(list(dict.fromkeys(map(status, got))))
                assert b'"address":"%b"' % address.encode() in got[0]
    return found
