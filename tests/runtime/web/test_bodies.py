"""The body of a request: how it is received, and how long its client is waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
import trio
from quart import request
from quart.typing import TestHTTPConnectionProtocol as Connection
from trio.testing import MockClock, wait_all_tasks_blocked
from werkzeug.exceptions import RequestEntityTooLarge

from trivet import BackgroundPlugin, Runtime, route
from trivet._web._app import build_app
from trivet._web._bodies import BUFFER_LIMIT, Body
from trivet._web._context import BODY_TIMEOUT, MIN_BODY_RATE
from trivet.testing import client, open_plugins

PIECE = b"x" * 64 * 1024
HEADERS = [(b"host", b"localhost")]


class Reader(BackgroundPlugin):
    """Routes that read a body in several ways."""

    @route("/whole", methods=["POST"])
    async def whole(self) -> str:
        return str(len(await request.get_data()))

    @route("/slowly", methods=["POST"])
    async def slowly(self) -> str:
        """A route that takes ten minutes for each piece."""
        count = 0
        async for data in request.body:
            await trio.sleep(600)
            count += len(data)
        return str(count)

    @route("/not-at-all", methods=["POST"])
    async def not_at_all(self) -> str:
        await trio.sleep(600)
        return "no, thank you"

    @route("/later", methods=["POST"])
    async def later(self) -> str:
        """A route that reads nothing before ten minutes are over."""
        await trio.sleep(600)
        return str(len(await request.get_data()))


def scope(path: str) -> Any:
    """A POST, as a server tells an application of it."""
    head: dict[str, Any] = {"method": "POST", "path": path, "query_string": b"", "headers": HEADERS}
    return {"type": "http", "http_version": "1.1", "scheme": "http", **head}


@asynccontextmanager
async def posting(runtime: Runtime, path: str, **headers: str) -> AsyncGenerator[Connection]:
    """A POST whose body is still to come."""
    asking: Any = client(runtime)
    async with asking.request(path, method="POST", headers=headers) as connection:
        yield connection


async def test_a_client_is_slowed_down_to_the_pace_of_the_reader(autojump_clock: MockClock) -> None:
    """A body that is read piece by piece is received piece by piece: little of it is in memory."""
    async with open_plugins(Reader) as runtime, posting(runtime, "/slowly") as connection:
        sent = 0
        with trio.move_on_after(30):
            while True:
                await connection.send(PIECE)
                sent += 1
        # The buffer, a piece that was read, and the pieces in the server's channel.
        assert sent * len(PIECE) <= 2 * (BUFFER_LIMIT + len(PIECE)) + 10 * len(PIECE)
        await connection.send_complete()


async def test_a_slow_reader_of_a_fast_client(autojump_clock: MockClock) -> None:
    """The time in which no handler reads is not the client's, which is not cut off."""
    # The time that a client has for the data that it can send while the first piece is read.
    assert BODY_TIMEOUT + (BUFFER_LIMIT + 2 * len(PIECE)) / MIN_BODY_RATE < 600
    async with open_plugins(Reader) as runtime:
        async with posting(runtime, "/slowly") as connection:
            for _ in range(8):
                await connection.send(PIECE)
            await connection.send_complete()
        response = await connection.as_response()
    assert (response.status_code, await response.get_data()) == (200, str(8 * len(PIECE)).encode())


async def test_a_reader_that_begins_late(autojump_clock: MockClock) -> None:
    """The limit does not run while a body waits to be asked for, however long."""
    async with open_plugins(Reader) as runtime:
        async with posting(runtime, "/later") as connection:
            for _ in range(10):
                await connection.send(PIECE)
            await connection.send_complete()
        response = await connection.as_response()
    assert (response.status_code, await response.get_data()) == (200, str(10 * len(PIECE)).encode())


@pytest.mark.parametrize("path", ["/whole", "/slowly"])
async def test_a_client_that_drips(path: str, autojump_clock: MockClock) -> None:
    """A client that sends a byte every ten seconds gets 408 after twenty, however it is read."""
    async with open_plugins(Reader) as runtime:
        begun = trio.current_time()
        async with posting(runtime, path) as connection:
            for _ in range(2):
                await trio.sleep(BODY_TIMEOUT / 2 - 0.1)
                await connection.send(b"x")
            await trio.sleep(1)
            assert trio.current_time() - begun < BODY_TIMEOUT + 1
        response = await connection.as_response()
    assert response.status_code == 408


@pytest.mark.parametrize("path", ["/whole", "/slowly", "/not-at-all"])
async def test_a_client_that_leaves_before_it_is_answered(
    path: str, autojump_clock: MockClock
) -> None:
    """A method ends with its client, while it waits for the body or for something else."""
    answer: list[Any] = []

    async def receive() -> Any:
        await trio.sleep(1)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answer.append(message)

    async with open_plugins(Reader) as runtime:
        begun = trio.current_time()
        with structlog.testing.capture_logs() as logs:
            await build_app(runtime, "127.0.0.1:0")(scope(path), receive, send)
        assert trio.current_time() == begun + 1
    assert (answer, logs) == ([], [])


async def test_a_body_without_a_reader_is_skipped_at_the_end(autojump_clock: MockClock) -> None:
    """A server that passes the rest of a body on before it ends the response is not kept
    waiting."""
    to_app, from_server = trio.open_memory_channel[Any](1)
    answer: list[Any] = []

    async def upload() -> None:
        while True:
            await to_app.send({"type": "http.request", "body": PIECE, "more_body": True})

    async def send(message: Any) -> None:
        answer.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await to_app.send({"type": "http.disconnect"})

    async with open_plugins(Reader) as runtime, trio.open_nursery() as nursery:
        nursery.start_soon(upload)
        begun = trio.current_time()
        await build_app(runtime, "127.0.0.1:0")(scope("/not-at-all"), from_server.receive, send)
        assert trio.current_time() == begun + 600
        nursery.cancel_scope.cancel()
    assert answer[0]["status"] == 200


@pytest.mark.parametrize("path", ["/whole", "/slowly"])
@pytest.mark.parametrize("announced", [True, False])
async def test_the_limit_of_a_body(path: str, announced: bool, autojump_clock: MockClock) -> None:
    """A body beyond `max_body` is a 413, announced or not, all at once or piece by piece."""
    headers = {"Content-Length": str(4 * len(PIECE))} if announced else {}
    async with open_plugins(Reader, max_body=3 * len(PIECE)) as runtime:
        async with posting(runtime, path, **headers) as connection:
            for _ in range(4):
                await connection.send(PIECE)
            await connection.send_complete()
        response = await connection.as_response()
    assert response.status_code == 413


async def test_no_more_is_asked_for_than_enough() -> None:
    """A body without a reader has a bounded buffer; then as much more is received as was read."""
    body = Body(announced=None, limit=None)
    wanted = 0

    async def receive() -> None:
        nonlocal wanted
        while True:
            await body.wait_for_room()
            wanted += 1
            body.append(PIECE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        assert wanted == BUFFER_LIMIT // len(PIECE)
        assert len(await anext(body)) == BUFFER_LIMIT
        await wait_all_tasks_blocked()
        assert wanted == 2 * BUFFER_LIMIT // len(PIECE)
        nursery.cancel_scope.cancel()


async def test_a_reader_learns_of_the_limit() -> None:
    """A reader that waits for the next piece learns that the body is too large, not that it has
    ended."""
    body = Body(announced=None, limit=10)
    body.append(b"x" * 5)
    assert await anext(body) == b"x" * 5

    async def read() -> None:
        with pytest.raises(RequestEntityTooLarge):
            await anext(body)
        told.set()

    told = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        body.append(b"x" * 6)
        await told.wait()


async def test_a_body_is_empty_once_its_end_has_come_without_data() -> None:
    """A body is empty when nothing more comes, and nothing has come."""
    empty, other = Body(None, None), Body(None, None)
    assert not empty.is_empty
    other.append(b"x")
    for body in (empty, other):
        body.set_complete()
    assert (empty.is_empty, other.is_empty) == (True, False)


@pytest.mark.parametrize(("given", "length"), [({}, b"0"), ({"body": b"tea"}, b"3")])
async def test_a_server_may_leave_out_what_asgi_has_defaults_for(
    given: dict[str, bytes], length: bytes
) -> None:
    """A message without `more_body` is the last one, and one without `body` has none of it."""
    messages: list[Any] = [{"type": "http.request", **given}]
    sent: list[Any] = []

    async def receive() -> Any:
        while not messages:
            await trio.sleep_forever()
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    async with open_plugins(Reader) as runtime:
        await build_app(runtime, "127.0.0.1:0")(scope("/whole"), receive, send)
    assert sent[0]["status"] == 200
    assert b"".join(message["body"] for message in sent[1:]) == length
