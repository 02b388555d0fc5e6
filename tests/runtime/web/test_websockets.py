"""The plugins' websockets: their handshakes, and their ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest
import structlog
import trio
from quart import abort, websocket
from trio.testing import MockClock

from trivet import (
    App,
    BackgroundPlugin,
    MonitoringPlugin,
    MonitoringPoint,
    Runtime,
    Settings,
    route,
    websocket_route,
)
from trivet._events._delivery import current_origin
from trivet._program._loader import load
from trivet._runtime import running
from trivet._web._app import build_app
from trivet.testing import client, open_plugins


class Points(MonitoringPlugin):
    def __init__(self, app: App) -> None:
        self.points: list[MonitoringPoint] = []

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        self.points += points


class Phone(BackgroundPlugin):
    """Websockets as authors write them."""

    _hung_up: int = 0

    def __init__(self, app: App) -> None:
        self.ends: list[type[BaseException]] = []

    @websocket_route("/echo/<int:times>")
    async def echo(self, times: int) -> None:
        try:
            for _ in range(times):
                await websocket.send(await websocket.receive())
        finally:
            self._hung_up += 1

    @websocket_route("/deaf")
    async def deaf(self) -> None:
        await websocket.accept()  # pyright: ignore[reportUnknownMemberType]
        await trio.sleep_forever()

    @websocket_route("/careful")
    async def careful(self) -> None:
        """A websocket that tells how its wait for a message ended."""
        try:
            await websocket.receive()
        except BaseException as error:
            self.ends.append(type(error))
            raise

    @websocket_route("/members")
    async def members(self) -> None:
        abort(403, "members only")

    @websocket_route("/silent")
    async def silent(self) -> None:
        """A websocket that has nothing to say."""

    @websocket_route("/who")
    async def who(self) -> None:
        await websocket.send(str(current_origin().request_id))

    @websocket_route("/crash/<when>")
    async def crash(self, when: str) -> None:
        if when == "before":
            raise ValueError("swordfish")
        if when == "exit":
            raise SystemExit("swordfish")
        await websocket.send("hello")
        if when == "abort":
            abort(403)
        if when == "closed":
            await websocket.close(4000)
        if when == "nursery":
            async with trio.open_nursery():
                await self.members()
        if when == "interrupt":
            raise KeyboardInterrupt
        raise ValueError("swordfish")

    @websocket_route("/both")
    async def listen(self) -> None:
        await websocket.send("websocket")

    @route("/both")
    async def ask(self) -> str:
        return "request"

    @route("/request")
    async def request(self) -> str:
        return "request"

    async def hung_up(self, times: int) -> None:
        """Wait until `count` websockets have ended."""
        while self._hung_up < times:
            await trio.sleep(0.01)


class Caller:
    """The other end of a websocket, in memory; `sent` has the messages to it."""

    def __init__(
        self,
        path: str,
        *,
        query: bytes = b"",
        explains: bool = True,
        says: Iterable[dict[str, Any]] = (),
    ) -> None:
        self.sent: list[dict[str, Any]] = []
        self.leaving = trio.Event()
        messages = [{"type": "websocket.receive", **message} for message in says]
        self._to_say: list[Any] = [*reversed(messages), {"type": "websocket.connect"}]
        self._scope: Any = {
            "type": "websocket",
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "query_string": query,
            "headers": [(b"host", b"localhost"), (b"luna-request-id", b"1700000000,abc")],
            "asgi": {"spec_version": "2.3"},
            "extensions": {"websocket.http.response": {}} if explains else {},
        }

    async def call(self, runtime: Runtime) -> list[dict[str, Any]]:
        """Run the application until it has ended; returns the messages that were sent."""
        await build_app(runtime, "127.0.0.1:0")(self._scope, self._receive, self._send)
        return self.sent

    async def _receive(self) -> Any:
        if self._to_say:
            event: Any = self._to_say.pop()
            return event
        await self.leaving.wait()
        return {"type": "websocket.disconnect", "code": 1001}

    @property
    def unsaid(self) -> int:
        """The number of messages that the application has not received."""
        return len(self._to_say)

    async def _send(self, message: Any) -> None:
        self.sent.append(cast("dict[str, Any]", message))

    @property
    def refusal(self) -> tuple[int, str]:
        """The status and the error code of the response to the handshake."""
        assert self.sent[0]["type"] == "websocket.http.response.start"
        body = b"".join(message["body"] for message in self.sent[1:])
        return self.sent[0]["status"], body.partition(b'"error_code":"')[2].partition(b'"')[
            0
        ].decode()

    @property
    def closed(self) -> int:
        """The code of the only close."""
        (code,) = [item["code"] for item in self.sent if item["type"] == "websocket.close"]
        assert isinstance(code, int)
        return code


async def call(runtime: Runtime, path: str, **options: Any) -> Caller:
    """Run a websocket, and wait for the end."""
    caller = Caller(path, **options)
    await caller.call(runtime)
    return caller


async def test_a_websocket_lasts_as_long_as_its_method(autojump_clock: MockClock) -> None:
    """A websocket's method gets the path's variables, and its return is a normal closure."""
    async with open_plugins(Phone) as runtime:
        asking: Any = client(runtime)
        async with asking.websocket("/echo/2") as connection:
            for word in ("hello", b"bytes"):
                await connection.send(word)
                assert await connection.receive() == word
            await runtime.get(Phone).hung_up(1)


async def test_a_method_ends_when_its_client_has_left(autojump_clock: MockClock) -> None:
    """A method is cancelled where it waits when its client has disconnected, and nothing is
    sent."""
    async with open_plugins(Phone) as runtime:
        caller = Caller("/echo/1")
        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(caller.call, runtime)
                await trio.testing.wait_all_tasks_blocked()
                caller.leaving.set()
            await runtime.get(Phone).hung_up(1)
    assert [message["type"] for message in caller.sent] == ["websocket.accept"]
    assert logs == []


async def test_a_method_that_waits_for_a_client_that_leaves(autojump_clock: MockClock) -> None:
    """A method that waits for a message is cancelled there, and meets no other exception."""
    async with open_plugins(Phone) as runtime:
        caller = Caller("/careful")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.call, runtime)
            await trio.testing.wait_all_tasks_blocked()
            caller.leaving.set()
        assert runtime.get(Phone).ends == [trio.Cancelled]


@pytest.mark.parametrize(
    ("event", "echoed"),
    [
        ({"text": "", "bytes": None}, {"text": "", "bytes": None}),
        ({"text": None, "bytes": b""}, {"text": None, "bytes": b""}),
    ],
)
async def test_an_empty_message(
    event: dict[str, Any], echoed: dict[str, Any], autojump_clock: MockClock
) -> None:
    """An empty message is a message, of text or of bytes."""
    async with open_plugins(Phone) as runtime:
        caller = Caller("/echo/1", says=[event])
        await caller.call(runtime)
    assert caller.sent[1] == {"type": "websocket.send", **echoed}


async def test_messages_that_nobody_receives(autojump_clock: MockClock) -> None:
    """Few messages without a receiver wait in memory; the others wait with the client."""
    async with open_plugins(Phone) as runtime:
        caller = Caller("/deaf", says=[{"text": "hello"}] * 100)
        with trio.move_on_after(60):
            await caller.call(runtime)
    assert 100 - caller.unsaid <= 20


@pytest.mark.parametrize(
    ("path", "status", "error_code"),
    [
        ("/members", 403, "http_403"),
        ("/crash/before", 500, "internal_error"),
        ("/crash/exit", 500, "internal_error"),
        ("/nowhere", 404, "unknown_path"),
        ("/request", 404, "unknown_path"),
    ],
)
async def test_a_handshake_that_is_refused(
    path: str, status: int, error_code: str, autojump_clock: MockClock
) -> None:
    """A websocket that is refused before it is accepted gets a problem document, as a request
    does."""
    async with open_plugins(Phone) as runtime:
        assert (await call(runtime, path)).refusal == (status, error_code)


async def test_a_method_that_says_nothing(autojump_clock: MockClock) -> None:
    """A websocket whose method says nothing is accepted, and closed."""
    async with open_plugins(Phone) as runtime:
        caller = await call(runtime, "/silent")
    assert caller.sent[0]["type"] == "websocket.accept"
    assert caller.closed == 1000


@pytest.mark.parametrize(
    ("when", "code"), [("after", 1011), ("abort", 1011), ("nursery", 1011), ("closed", 4000)]
)
async def test_a_method_that_crashes(when: str, code: int, autojump_clock: MockClock) -> None:
    """A crash closes an open websocket with 1011; the log has the plugin, the route, the
    exception."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Phone) as runtime:
            caller = await call(runtime, f"/crash/{when}")
    assert caller.closed == code
    assert "swordfish" not in str(caller.sent)
    (line,) = [log for log in logs if log["event"] == "handler crashed"]
    assert (line["plugin"], line["route"]) == ("phone", "websocket:/crash/{when}")
    assert isinstance(line["exc_info"], BaseException)


@pytest.mark.parametrize("contained", [True, False])
async def test_an_interrupt(contained: bool) -> None:
    """A KeyboardInterrupt is the method's fault only where signals go elsewhere."""
    program = load(Settings(), plugins=[Phone])
    async with running(Runtime(program, contains_interrupts=contained)) as runtime:
        if contained:
            assert (await call(runtime, "/crash/interrupt")).closed == 1011
        else:
            with pytest.raises(KeyboardInterrupt):
                await call(runtime, "/crash/interrupt")


async def test_a_handshake_that_quart_cannot_read(autojump_clock: MockClock) -> None:
    """A query that is not ASCII is a 400, or a close where the server cannot send a response."""
    async with open_plugins(Phone) as runtime:
        caller = await call(runtime, "/silent", query=b"\xff")
        assert caller.refusal == (400, "malformed_request")
        caller = await call(runtime, "/silent", query=b"\xff", explains=False)
        assert [message["type"] for message in caller.sent] == ["websocket.close"]


async def test_a_path_for_websockets_and_for_requests(autojump_clock: MockClock) -> None:
    """A websocket and a route may share a path; a request to a path of websockets only is told
    so."""
    async with open_plugins(Phone) as runtime:
        response = await client(runtime).get("/both")
        assert await response.get_data(as_text=True) == "request"
        assert (await call(runtime, "/both")).sent[1]["text"] == "websocket"
        response = await client(runtime).get("/silent")
        assert response.status_code == 426
        assert response.headers["Upgrade"] == "websocket"
        assert (await response.get_json())["error_code"] == "upgrade_required"


async def test_a_websocket_after_the_stop_began(autojump_clock: MockClock) -> None:
    """A websocket after the beginning of the stop is refused, with the time to try elsewhere."""
    async with open_plugins(Phone) as runtime:
        runtime.begin_stop()
        caller = await call(runtime, "/silent")
    assert caller.refusal == (503, "stopping")
    assert (b"retry-after", b"5") in caller.sent[0]["headers"]


async def test_a_websocket_that_its_server_cancels(autojump_clock: MockClock) -> None:
    """A websocket that is cut off gets 1012, or 503 before it is accepted, under any server."""
    async with open_plugins(Phone) as runtime:
        caller = Caller("/echo/1")
        with trio.move_on_after(1) as scope:
            await caller.call(runtime)
    assert scope.cancelled_caught
    assert caller.closed == 1012


async def test_a_restart_closes_a_websocket_however_quick(autojump_clock: MockClock) -> None:
    """A websocket ends with its plugin's lifetime, also when the plugin is up again at once."""
    async with open_plugins(Phone) as runtime:
        caller = Caller("/echo/1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.call, runtime)
            await trio.testing.wait_all_tasks_blocked()
            runtime.restart("phone")
        assert caller.closed == 1012
        assert runtime.hosts["phone"].is_up


@pytest.mark.parametrize(
    ("path", "status", "error_code"),
    [
        ("/crash/before", 500, "internal_error"),
        ("/crash/exit", 500, "internal_error"),
        ("/crash/after", 101, "internal_error"),
        ("/crash/nursery", 101, "internal_error"),
        ("/members", 403, "http_403"),
        ("/nowhere", 404, "unknown_path"),
    ],
)
async def test_a_websocket_that_fails_is_counted(
    path: str, status: int, error_code: str, autojump_clock: MockClock
) -> None:
    """A crash, and a handshake that is refused, is a point of `errors`, as a request's is."""
    async with open_plugins(Phone, Points) as runtime:
        await call(runtime, path)
        await trio.testing.wait_all_tasks_blocked()
        (point,) = runtime.get(Points).points
    assert point.series == "errors"
    assert (point.tags["status_code"], point.fields["error_code"]) == (status, error_code)


@pytest.mark.parametrize("path", ["/silent", "/who", "/crash/closed"])
async def test_a_crash_is_counted_once(path: str, autojump_clock: MockClock) -> None:
    """A crash after the close is counted too, once; a good end is not."""
    async with open_plugins(Phone, Points) as runtime:
        await call(runtime, path)
        await trio.testing.wait_all_tasks_blocked()
        points = runtime.get(Points).points
    assert len(points) == (path == "/crash/closed")


async def test_a_websocket_is_known_but_not_measured(autojump_clock: MockClock) -> None:
    """A websocket acts in the name of its request's id; its time, perhaps of hours, is no point."""
    async with open_plugins(Phone, Points) as runtime:
        caller = await call(runtime, "/who")
        await trio.testing.wait_all_tasks_blocked()
        assert runtime.get(Points).points == []
    assert caller.sent[1]["text"] == "1700000000,abc"
