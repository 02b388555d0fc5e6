"""The short way of a plugin's route, beside the way through the layers."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

import httpx
import pytest
import structlog
import trio
from quart import Response, after_this_request, request, request_started

from trivet import BackgroundPlugin, listening, route
from trivet._access._tokens import TokenSettings
from trivet._events._delivery import current_origin
from trivet._faults._secret import Secret
from trivet._loop._tasks import plugin_of_task
from trivet.testing import open_plugins, serving

from .clients import UPGRADE, connect, get, status, until
from .test_middleware import Points
from .test_plain_routes import PATHS, Shop
from .ways import Taken, uniform

OWN: ContextVar[str] = ContextVar("own", default="nothing")
LARGE = "x" * 20_000
WAITING = [f"/waits/{kind}" for kind in ("error", "around", "asks", "dict", "response", "none")]


class Later(BackgroundPlugin):
    """Routes that wait, or look around them, or have a way of their own."""

    waits: ClassVar[trio.Event]

    @route("/around")
    async def around(self) -> dict[str, object]:
        """Everything that a request makes known."""
        before, origin = OWN.get(), current_origin()
        OWN.set("something")
        logged = structlog.contextvars.get_contextvars()
        return {"before": before, "mark": plugin_of_task.get(), "origin": str(origin), **logged}

    @route("/waits/<kind>")
    async def waits_for(self, kind: str) -> Any:
        with trio.move_on_after(0.005):
            await trio.sleep_forever()
        await trio.sleep(0.001)
        if kind == "error":
            raise ValueError("spilt")
        if kind == "around":
            return await self.around()
        if kind == "asks":
            return request.path + str(request.args) + str(await request.get_data())
        return {"dict": {"a": 1}, "response": Response("r", 201), "none": None}[kind]

    @route("/after")
    async def after(self) -> dict[str, object]:
        @after_this_request
        async def add(response: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
            response.headers["X-After"] = "after"
            return response

        return {}

    @route("/large")
    async def large(self) -> str:
        return LARGE

    @route("/public", scope=None, methods=["GET", "PUT"])
    async def public(self) -> tuple[str, int]:
        return "public", 203

    @route("/admin", scope="admin")
    async def admin(self) -> str:
        return "admin"

    @route("/stops")
    async def stops(self) -> str:
        await trio.sleep_forever()
        return ""


QUICK = [path for path in PATHS if path not in ("/stream", "*") and "later" not in path]
REQUESTS = [
    *(get(path.encode(), b"X-Given: given", b"Luna-Request-Id: r-1") for path in QUICK),
    *(get(b"/waits/" + kind) for kind in (b"dict", b"response", b"none", b"error", b"asks")),
    *(get(path) for path in (b"/waits/around", b"/around", b"/after", b"/large", b"/admin")),
    get(b"/asks?q=1&q=2", b"X-Given: a", b"X-Given: b"),
    get(b"/value/dict?q=%ff"),
    get(b"/value/dict", b"Luna-Request-Id: r-1", b"Luna-Request-Id: r-2"),
    get(b"/v%61lue/dict"),
    get(b"http://localhost/value/dict"),
    get(b"//value/dict"),
    get(b"/value/dict", b"Content-Length: 0"),
    get(b"/value/dict", b"Content-Length: 1") + b"x",
    get(b"/value/dict", b"Expect: 100-continue"),
    get(b"/value/dict", b"Connection: close"),
    get(b"/value/dict", b"Sec-Fetch-Site: cross-site"),
    get(b"/public", b"Sec-Fetch-Site: cross-site"),
    get(b"/public", b"Sec-Fetch-Site: cross-site").replace(b"GET", b"PUT"),
    get(b"/value/dict", b"traceparent: 00-t", b"Luna-Account-Id: account"),
    get(b"/value/dict").replace(b"localhost", b"evil.example"),
    get(b"/value/dict").replace(b"GET", b"HEAD"),
    get(b"/value/dict").replace(b"GET", b"DELETE"),
    get(b"/value/dict").replace(b"GET", b"OPTIONS"),
    get(b"/value/dict").replace(b"HTTP/1.1", b"HTTP/1.0"),
    UPGRADE % b"/value/dict" + b"\r\n",
    get(b"/livez"),
]
TOKENS = [TokenSettings(name="shop", scopes=["read"], secret=Secret("correct-horse-battery"))]
BEARER = b"Authorization: Bearer correct-horse-battery"
ANONYMOUS = [get(b"/value/dict"), get(b"/value/dict", BEARER), get(b"/public", BEARER)]


async def shown(
    requests: list[bytes], program: Mapping[str, Any]
) -> tuple[list[bytes], list[object], list[object]]:
    """Everything that a program shows of these requests: twice each, over one connection."""
    async with open_plugins(Shop, Later, Points, **program) as runtime:
        with structlog.testing.capture_logs() as logs:
            async with serving(runtime) as url:
                got: list[bytes] = []
                for each in requests:
                    async with await connect(url) as stream:
                        await stream.send_all(each * 2)
                        await stream.send_eof()
                        got.append(uniform(b"".join([data async for data in stream])))
                await trio.testing.wait_all_tasks_blocked(0.01)
        points = [
            (each.series, each.tags, {**each.fields, "request_id": "", "execution_time": ""})
            for some in runtime.get(Points).requests
            for each in some
        ]
    told = [(log["event"], log.get("plugin"), log.get("route"), log.get("error")) for log in logs]
    return got, list(points), list(told)


@pytest.mark.parametrize(
    ("requests", "program", "answers", "begun"),
    [
        pytest.param(REQUESTS, {}, 40, 76, id="all"),
        pytest.param(REQUESTS, {"trusted_proxies": ["127.0.0.1"]}, 40, 76, id="behind-a-proxy"),
        pytest.param(REQUESTS[:9], {"root_path": "/trivet"}, 0, 0, id="below-a-path"),
        pytest.param(ANONYMOUS, {"tokens": TOKENS}, 4, 0, id="a-token-needed"),
    ],
)
async def test_a_shortcut_is_not_to_be_told_from_the_layers(
    monkeypatch: pytest.MonkeyPatch,
    requests: list[bytes],
    program: Mapping[str, Any],
    answers: int,
    begun: int,
) -> None:
    """Responses, points and logs are the same on both ways, and so is what a handler sees."""
    with monkeypatch.context() as patch:
        short = Taken(patch, short=True)
        found = await shown(requests, program)
    with monkeypatch.context() as patch:
        Taken(patch, short=False)
        expected = await shown(requests, program)
    for request_, mine, theirs in zip(requests, found[0], expected[0], strict=True):
        assert (request_, mine) == (request_, theirs)
    assert found == expected
    assert (len(short.answers), len(short.begun)) == (answers, begun)


@pytest.mark.parametrize("path", ["/around", "/after", *WAITING])
async def test_the_next_request_of_a_connection_is_its_own(path: str) -> None:
    """The connection's next request is another one, whatever a handler asks of its own, and
    whenever."""
    async with (
        open_plugins(Later) as runtime,
        serving(runtime) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        for _ in range(2):  # The second time the head is known.
            await client.get(path)
            assert (await client.get("/livez")).json() == {"status": "alive"}


async def test_a_handler_that_waits_is_cut_off_at_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that was called before the layers were there is cancelled by them, too."""
    short = Taken(monkeypatch, short=True)
    async with open_plugins(Later, Points) as runtime:
        async with serving(runtime) as url:
            stream = await connect(url)
            await stream.send_all(get(b"/stops"))
            await waiting(short)
            runtime.hurry()
        async with stream:
            assert status(await until(stream, b"stopping")) == 503


async def test_a_client_that_leaves_ends_its_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that waits is cancelled when its client disconnects; that is a point, too."""
    short = Taken(monkeypatch, short=True)
    async with open_plugins(Later, Points) as runtime, serving(runtime) as url:
        stream = await connect(url)
        await stream.send_all(get(b"/stops"))
        await waiting(short)
        await trio.aclose_forcefully(stream)
        requests = runtime.get(Points).requests
        with trio.fail_after(10):
            while not requests:
                await trio.sleep(0.01)
    assert requests[0][0].tags["status_code"] == 499


async def test_a_hook_is_called_for_a_head_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that comes after a first request is called for the next one with the same head."""
    short, called = Taken(monkeypatch, short=True), list[str]()

    async def note(_: object, **__: object) -> None:
        called.append(request.path)

    async with open_plugins(Shop) as runtime, serving(runtime) as url, await connect(url) as stream:
        for is_hooked in (False, True):
            if is_hooked:
                request_started.connect(note)
            await stream.send_all(get(b"/value/dict"))
            assert status(await until(stream, b"}\n")) == 200
            assert len(called) == is_hooked
    request_started.disconnect(note)
    assert len(short.answers) == 1


async def test_an_address_for_management_has_no_routes() -> None:
    """The shortcuts are those of the addresses for everybody."""
    async with (
        open_plugins(Shop) as runtime,
        listening(runtime, "127.0.0.1:0", management_bind="127.0.0.1:0") as (url, management),
    ):
        for address, expected in ((url, 200), (management, 404)):
            async with await connect(address) as stream:
                await stream.send_all(get(b"/value/dict"))
                assert status(await until(stream, b"}")) == expected


async def waiting(short: Taken) -> None:
    """Wait until a handler waits."""
    with trio.fail_after(10):
        while not short.begun:
            await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.01)
