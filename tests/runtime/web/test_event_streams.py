"""Server-sent events: their form, and the life of a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    Event,
    EventStream,
    Runtime,
    ServerSentEvent,
    create_app,
    route,
)
from trivet.testing import client, open_plugins


class Boiled(Event):
    temperature: float


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (ServerSentEvent("tea"), b"data: tea\n\n"),
        (ServerSentEvent(""), b"data: \n\n"),
        (ServerSentEvent("a\nb\r\nc\rd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (ServerSentEvent([1, None]), b"data: [1,null]\n\n"),
        (ServerSentEvent(Boiled(99.5)), b'data: {"temperature":99.5}\n\n'),
        (
            ServerSentEvent("ü", event="boiled", id="7", retry=1.5),
            "event: boiled\nid: 7\nretry: 1500\ndata: ü\n\n".encode(),
        ),
    ],
)
def test_an_event_on_the_wire(event: ServerSentEvent, expected: bytes) -> None:
    """Text is sent line by line, and other data as JSON; `retry` is in milliseconds there."""
    assert event.encode() == expected


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("value", ["a\nb", "a\r", "\0"])
def test_a_name_has_one_line(field: str, value: str) -> None:
    """A name with a line break, which would begin another field, is refused."""
    with pytest.raises(ValueError, match=f"^{field} of a server-sent event is one line"):
        attrs.evolve(ServerSentEvent("tea"), **cast("dict[str, Any]", {field: value}))


@given(st.text())
def test_no_text_ends_its_event(text: str) -> None:
    """The data of an event never ends it: the one empty line is the last."""
    try:
        *lines, nothing, end = ServerSentEvent(text).encode().decode().split("\n")
    except UnicodeEncodeError:  # A lone surrogate cannot be sent.
        return
    assert (nothing, end) == ("", "")
    assert all(line.startswith("data: ") for line in lines)


@attrs.define
class Source:
    """A source that yields the given items, and notes its end."""

    items: list[Any]
    then: BaseException | None = None
    closed: bool = False

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> object:
        if self.items:
            await trio.lowlevel.checkpoint()
            return self.items.pop(0)
        if self.then is not None:
            raise self.then
        return await trio.sleep_forever()

    async def aclose(self) -> None:
        """Note the end."""
        self.closed = True


class Kitchen(BackgroundPlugin):
    """A route with one stream, of a test's source."""

    source: Any = None

    @route("/kitchen")
    async def stream(self) -> EventStream:
        source: AsyncIterable[object] = self.source
        return EventStream(source)


async def counted(times: int) -> AsyncGenerator[int]:  # noqa: ASYNC900 - which are not ours
    """A generator, as authors like to write them."""
    for number in range(times):
        await trio.sleep(1)
        yield number


class Listener:
    """A client in memory, which may disconnect."""

    def __init__(self) -> None:
        self.leaving = trio.Event()
        self.complete = False
        self._sent, self._pieces = trio.open_memory_channel[bytes](0)

    async def ask(self, runtime: Runtime) -> None:
        """Request the stream, until it ends or the client disconnects."""
        scope: Any = {
            "type": "http",
            "http_version": "2",
            "method": "GET",
            "scheme": "http",
            "path": "/kitchen",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        await create_app(runtime)(scope, self._asgi_receive, self._asgi_send)

    async def receive(self) -> bytes:
        """The next piece of the response."""
        return await self._pieces.receive()

    async def _asgi_receive(self) -> Any:
        await self.leaving.wait()
        return {"type": "http.disconnect"}

    async def _asgi_send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            if message.get("more_body"):
                await self._sent.send(message["body"])
            else:
                self.complete = True


@asynccontextmanager
async def listening(runtime: Runtime, source: object) -> AsyncGenerator[Listener]:
    """A client that listens to the source until the block ends."""
    runtime.get(Kitchen).source = source
    listener = Listener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.ask, runtime)
        yield listener
        listener.leaving.set()


async def test_a_stream_ends_with_its_source(autojump_clock: MockClock) -> None:
    """The response of a stream that ends is complete, and no cache or proxy may keep it."""
    async with open_plugins(Kitchen) as runtime:
        runtime.get(Kitchen).source = counted(2)
        response = await client(runtime).get("/kitchen")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"
    assert await response.get_data() == b"data: 0\n\ndata: 1\n\n"


async def test_head_is_answered_without_a_stream(autojump_clock: MockClock) -> None:
    """A HEAD request gets the headers, and the source is not read."""
    async with open_plugins(Kitchen) as runtime:
        source = runtime.get(Kitchen).source = Source(["tea"])
        response = await client(runtime).head("/kitchen")
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert source.items == ["tea"]


async def test_silence_is_broken_by_comments(autojump_clock: MockClock) -> None:
    """A comment after every 15 seconds without an event keeps the connection alive, for hours."""
    async with open_plugins(Kitchen) as runtime:
        async with listening(runtime, Source(["tea"])) as listener:
            assert await listener.receive() == b"data: tea\n\n"
            begun = trio.current_time()
            for comments in range(1, 400):
                assert await listener.receive() == b": keep-alive\n\n"
                assert trio.current_time() - begun == pytest.approx(15 * comments)


async def test_a_stream_ends_when_its_client_leaves(autojump_clock: MockClock) -> None:
    """A stream whose client leaves closes its source, and logs no error."""
    source = Source(["tea"])
    async with open_plugins(Kitchen) as runtime:
        with structlog.testing.capture_logs() as logs:
            async with listening(runtime, source) as listener:
                assert await listener.receive() == b"data: tea\n\n"
    assert source.closed
    assert [log for log in logs if log["log_level"] == "error"] == []


@pytest.mark.parametrize("error", [ValueError("spilt"), SystemExit("spilt")], ids=repr)
async def test_a_source_that_crashes_breaks_its_stream_off(
    error: BaseException, autojump_clock: MockClock
) -> None:
    """A source that crashes leaves its response without an end, and the log names the plugin."""
    source = Source(["tea"], then=error)
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Kitchen) as runtime:
            runtime.get(Kitchen).source = source
            with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
                await create_app(runtime).test_client().get("/kitchen")
    (line,) = [log for log in logs if log["event"] == "request failed"]
    assert (line["plugin"], line["route"]) == ("kitchen", "GET:/kitchen")
    assert source.closed


class Untidy(Source):
    """A source that fails when it is cancelled."""

    async def __anext__(self) -> object:
        try:
            return await super().__anext__()
        except trio.Cancelled:
            raise ValueError("spilt") from None  # noqa: ASYNC104 - as authors may


async def test_a_source_that_crashes_while_its_stream_ends(autojump_clock: MockClock) -> None:
    """A stream whose source crashes at the stop still has its last event and its end."""
    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Kitchen) as runtime:
            async with listening(runtime, Untidy(["tea"])) as listener:
                assert await listener.receive() == b"data: tea\n\n"
                await trio.testing.wait_all_tasks_blocked()
                runtime.begin_stop()
                assert (await listener.receive()).startswith(b"event: stopping\n")
                await trio.testing.wait_all_tasks_blocked()
                assert listener.complete
    (line,) = [log for log in logs if log["event"] == "handler crashed"]
    assert line["plugin"] == "kitchen"


async def test_a_restart_ends_a_stream_however_quick(autojump_clock: MockClock) -> None:
    """A stream ends with its plugin's lifetime, also when the plugin is up again at once."""
    async with open_plugins(Kitchen) as runtime:
        async with listening(runtime, Source(["tea"])) as listener:
            assert await listener.receive() == b"data: tea\n\n"
            runtime.restart("kitchen")
            last = await listener.receive()
            assert (
                last == b"event: stopping\nretry: 5000\ndata: plugin 'kitchen' is not running\n\n"
            )
        assert runtime.hosts["kitchen"].is_up


async def test_a_stream_that_nobody_reads_ends_at_the_stop(autojump_clock: MockClock) -> None:
    """The source of a stream that nobody reads is closed at once, also while an event waits."""
    source = Source(["tea"] * 100)
    async with open_plugins(Kitchen) as runtime:
        async with listening(runtime, source) as listener:
            await trio.testing.wait_all_tasks_blocked()
            assert source.items
            runtime.begin_stop()
            await trio.testing.wait_all_tasks_blocked()
            assert source.closed
            while b"event: stopping" not in await listener.receive():
                pass
            await trio.testing.wait_all_tasks_blocked()
            assert listener.complete
