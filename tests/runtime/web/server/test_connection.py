"""One connection: its idle time, its end, and the announcement of its end."""

from __future__ import annotations

import pytest
import trio

from trivet._web._server import _connection as _connections
from trivet.testing import open_plugins, serving

from ..clients import ask, connect, get, post, read, status, until
from .desk import CLOSING, Desk, Ledger, served

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", get(b"/")[:20]])
async def test_a_client_that_asks_for_nothing(sent: bytes, short: None) -> None:
    """A connection without a whole request is closed after the keep-alive time."""
    async with served() as (url, _), await connect(url) as stream:
        if sent:
            await stream.send_all(sent)
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


async def test_a_connection_is_idle_between_requests_only(short: None) -> None:
    """The keep-alive time counts from the last response, and not while a request is answered."""
    async with served() as (url, runtime), await connect(url) as stream:
        desk = runtime.get(Desk)
        for path in (b"/", b"/slow", b"/"):
            await stream.send_all(get(path))
            if path == b"/slow":
                await desk.opened(1)
                await trio.sleep(3 * _connections.KEEP_ALIVE_TIMEOUT)
                desk.go_on.set()
            assert status(await until(stream, b"done")) == 200
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


@pytest.mark.parametrize("asked_before", [True, False])
async def test_an_idle_connection_ends_when_the_stop_begins(asked_before: bool) -> None:
    """An idle connection ends with the listening socket, and another after its response."""
    async with open_plugins(Desk, Ledger) as runtime:
        desk = runtime.get(Desk)
        async with trio.open_nursery() as nursery:
            async with serving(runtime) as url:
                idle, busy = await connect(url), await connect(url)
                if asked_before:
                    await idle.send_all(get(b"/"))
                    await until(idle, b"done")
                await busy.send_all(get(b"/slow"))
                await desk.opened(1)

                async def look_on() -> None:
                    with trio.fail_after(60):
                        assert await idle.receive_some() == b""
                    desk.go_on.set()
                    assert status(await until(busy, b"done")) == 200

                nursery.start_soon(look_on)
        await idle.aclose()
        await busy.aclose()


@pytest.mark.parametrize("blank", [b"\r\n", b"\n", b"\r\n" * 5])
async def test_blank_lines_before_a_request_are_passed_over(blank: bytes) -> None:
    """Blank lines before a request, and behind a body, are skipped."""
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(blank + post(b"/size", b"four") + blank + get(b"/", CLOSING))
        answers = await read(stream)
        assert answers.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("behind", [b"\r\n", b"x" * 100_000, get(b"/")])
async def test_data_behind_the_last_request_is_ignored(behind: bytes) -> None:
    """The last request is answered once, and data behind it is ignored."""
    body = b'{"order_id":"a"}'
    async with served() as (url, runtime):
        asked = post(b"/events/placed?wait=true", body, CLOSING)
        answer = await ask(url, asked + behind)
        assert status(answer) == 200
        assert answer.count(b"HTTP/1.1 ") == 1
        assert runtime.get(Ledger).placed == ["a"]


async def test_every_request_before_the_end_is_answered() -> None:
    """Several requests in one piece are answered, although the end of sending follows them."""
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(get(b"/") * 3)
        await stream.send_eof()
        assert (await read(stream)).count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize("path", [b"/ignore", b"/events/nope", b"/nowhere"])
@pytest.mark.parametrize("length", [4, 60_000, 200_000])
async def test_an_answer_before_the_body_has_come(path: bytes, length: int) -> None:
    """A short rest of a body is skipped; before a long one the response says that it closes."""
    async with served() as (url, _), await connect(url) as stream:
        whole = post(path, b"x" * length)
        head = whole[:-length]
        await stream.send_all(head)
        answer = await until(stream, b"\r\n\r\n")
        is_last = b"connection: close" in answer.lower()
        assert is_last == (length > 64 * 1024)
        await stream.send_all(b"x" * length)
        if not is_last:
            await stream.send_all(get(b"/", CLOSING))
            assert b"HTTP/1.1 200" in await read(stream)


async def test_the_rest_of_a_body_of_unknown_length() -> None:
    """The response before a body of unknown length says that the connection closes."""
    head = b"POST /ignore HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(head)
        assert b"connection: close" in (await until(stream, b"\r\n\r\n")).lower()


async def test_the_rest_of_a_body_that_does_not_come(short: None) -> None:
    """The rest of a body is waited for as the next request would be."""
    async with served() as (url, _), await connect(url) as stream:
        await stream.send_all(post(b"/ignore", b"x" * 100)[:-50])
        await until(stream, b"done")
        with trio.fail_after(60):
            assert await stream.receive_some() == b""


async def test_the_date_is_that_of_the_second() -> None:
    """Each response has the date, and two in a second have the same."""
    async with served() as (url, _):
        dates = {
            line
            for _ in range(20)
            for line in (await ask(url, get(b"/", CLOSING))).split(b"\r\n")
            if line.lower().startswith(b"date: ")
        }
    assert 1 <= len(dates) <= 10
