"""The server alone, with an ASGI application: real sockets, bytes in and bytes out."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from trivet._web._asgi import ASGIApp
from trivet._web._server._listening import Server

from ..clients import ask, connect, get, read, status, until

CLOSING = b"Connection: close"
KNOWN: ContextVar[int] = ContextVar("known", default=0)


@asynccontextmanager
async def serving(app: ASGIApp, bind: str = "127.0.0.1:0") -> AsyncGenerator[str]:
    """The URL of a server with an application; the server is aborted at the end."""
    server = Server(app, max_connections=20, max_message=1000, contains_interrupts=False)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(server.serve, bind)
        try:
            yield url
        finally:
            server.abort()


async def answer(send: Any, body: bytes, code: int = 200) -> None:
    """Send a whole response."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class LeftError(Exception):
    """The client has disconnected, or was refused."""


async def whole(receive: Any) -> bytes:
    """The whole body of a request."""
    body = b""
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            raise LeftError
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the method, the path and the body."""
    try:
        body = await whole(receive)
    except LeftError:
        return
    await answer(send, f"{scope['method']} {scope['path']} ".encode() + body)


async def test_requests_one_after_the_other() -> None:
    """Several requests in one piece are answered in order, each with its own body."""
    chunked = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = b"".join([
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none",
        chunked + b"3\r\ntwo\r\n0\r\nX-Trailer: y\r\n\r\n",
        b"\r\n" + get(b"/c", CLOSING),
    ])  # fmt: skip
    async with serving(echo) as url:
        answers = (await ask(url, sent)).split(b"HTTP/1.1 200 OK\r\n")[1:]
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert bodies == [b"POST /a one", b"POST /b two", b"GET /c "]


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_request_in_pieces(size: int) -> None:
    """A request is the same one, however it arrives."""
    body = b"x" * 5000
    sent = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\nConnection: close\r\n\r\n" + body
    )
    async with serving(echo) as url, await connect(url) as stream:
        for begin in range(0, len(sent), size):
            await stream.send_all(sent[begin : begin + size])
            if size == 1 and begin > 200:
                await stream.send_all(sent[begin + 1 :])
                break
        assert (await read(stream)).endswith(b"POST /a " + body)


async def test_a_client_that_waits_to_be_asked() -> None:
    """`100 Continue` is sent when the body is read, and not before; never twice."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with serving(echo) as url, await connect(url) as stream:
        await stream.send_all(head)
        assert await until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"a")
        await stream.send_all(b"b" + get(b"/", CLOSING))
        answers = await read(stream)
    assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"100" not in answers.replace(b"100-continue", b"")
    assert b"POST /a ab" in answers


async def test_a_client_that_need_not_send_its_body() -> None:
    """An application that does not read a body does not ask for it."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"no", 403)

    head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
    async with serving(refuse) as url:
        for length in (30, 99_999_999):
            # The client leaves its body out: the next request must not be taken for it.
            sent = await ask(url, head % length + get(b"/next"))
            assert sent.startswith(b"HTTP/1.1 403 ")
            assert b"\r\nConnection: close\r\n" in sent
            assert sent.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("method", [b"BREW", b"M-SEARCH", b"PROPFIND", b"X", b"PATCH"])
async def test_a_method_that_is_not_common(method: bytes) -> None:
    """A request may have any method, and a body, in any framing; the next one follows it."""
    line = method + b" /a HTTP/1.1\r\nHost: x\r\n"
    sent = line + b"Content-Length: 3\r\n\r\none"
    sent += line + b"Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
    async with serving(echo) as url:
        said = await ask(url, sent + get(b"/b", CLOSING))
    assert said.count(b"HTTP/1.1 200") == 3
    assert method + b" /a one" in said
    assert method + b" /a two" in said
    assert said.endswith(b"GET /b ")


@pytest.mark.parametrize("offer", [b"h2c", b"TLS/1.0", b"websocket"])
async def test_an_upgrade_that_is_not_taken(offer: bytes) -> None:
    """An upgrade is an offer: its request is answered, its body is read, the next one follows."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + offer
    sent = head + b"\r\nContent-Length: 3\r\n\r\none"
    sent += head + b"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
    async with serving(echo) as url:
        said = await ask(url, sent + get(b"/b", CLOSING))
    assert said.count(b"HTTP/1.1 200") == 3
    assert b"POST /a one" in said
    assert b"POST /a two" in said
    assert b"101" not in said


async def test_head() -> None:
    """The response to HEAD has the length of the body, and no body."""
    async with serving(echo) as url:
        sent = await ask(url, get(b"/", CLOSING).replace(b"GET", b"HEAD"))
    assert b"content-length: 7\r\n" in sent
    assert sent.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("kept", [True, False])
async def test_an_old_client(kept: bool) -> None:
    """A client of HTTP/1.0 keeps its connection if it asks for that."""
    asked = get(b"/", *([b"Connection: keep-alive"] if kept else [])).replace(b"1.1", b"1.0")
    async with serving(echo) as url, await connect(url) as stream:
        await stream.send_all(asked)
        first = await until(stream, b"GET / ")
        assert (b"Connection: keep-alive" in first) == kept
        if kept:
            await stream.send_all(asked.replace(b"Connection: keep-alive\r\n", b""))
        assert (b"HTTP/1.1 200" in await read(stream)) == kept


async def test_a_context_of_its_own() -> None:
    """A context variable that one request sets is not set for the next one of its connection."""
    seen: list[int] = []

    async def remember(scope: Any, receive: Any, send: Any) -> None:
        seen.append(KNOWN.get())
        KNOWN.set(len(seen))
        await answer(send, b"done")

    async with serving(remember) as url:
        await ask(url, get(b"/") * 3 + get(b"/", CLOSING))
        async with await connect(url) as stream:
            for _ in range(3):
                await stream.send_all(get(b"/"))
                await until(stream, b"done")
    assert seen == [0] * 7


async def crashes(scope: Any, receive: Any, send: Any) -> None:
    """Raise before the response."""
    raise ValueError("on purpose")


async def crashes_later(scope: Any, receive: Any, send: Any) -> None:
    """Raise within the response."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    raise ValueError("on purpose")


async def says_nothing(scope: Any, receive: Any, send: Any) -> None:
    """Return without a response."""


async def says_half(scope: Any, receive: Any, send: Any) -> None:
    """Return within the response."""
    headers = [(b"content-length", b"10")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})


async def splits(scope: Any, receive: Any, send: Any) -> None:
    """Try to send two responses by one header."""
    headers = [(b"x", b"y\r\n\r\nHTTP/1.1 200 OK")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


WRONG: dict[ASGIApp, int] = {
    crashes: 500,
    says_nothing: 500,
    splits: 500,
    crashes_later: 200,
    says_half: 200,
}


@pytest.mark.parametrize("app", WRONG)
async def test_an_application_that_is_wrong(app: ASGIApp) -> None:
    """A crash is a 500, or a response without an end; its connection closes, others go on."""
    with structlog.testing.capture_logs() as logs:
        async with serving(app) as url:
            for _ in range(2):
                sent = await ask(url, get(b"/"))
                assert status(sent) == WRONG[app]
                assert b"on purpose" not in sent
                if WRONG[app] == 500:
                    assert b"Connection: close" in sent
                else:
                    assert not sent.endswith(b"0\r\n\r\n")
    assert [log["event"] for log in logs] == ["connection failed"] * 2


async def test_what_cannot_be_read_is_answered() -> None:
    """A request that is refused gets problem details, and one line in the log says why."""
    chunks = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n"
    with structlog.testing.capture_logs() as logs:
        async with serving(echo) as url:
            for sent, code in ((b"nonsense\r\n\r\n", 400), (chunks, 400), (get(b"/" * 9000), 414)):
                said = await ask(url, sent)
                assert status(said) == code
                assert b"\r\nContent-Type: application/problem+json\r\n" in said
    assert [(log["event"], log["status"]) for log in logs] == [
        ("request refused", 400),
        ("request refused", 400),
        ("request refused", 414),
    ]


async def test_a_refusal_of_head() -> None:
    """A HEAD whose body cannot be parsed is refused without a body."""
    head = b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(echo) as url:
        said = await ask(url, head + b"no\r\n")
    assert status(said) == 400
    assert said.endswith(b"\r\n\r\n")


async def test_a_request_behind_a_bad_one() -> None:
    """Data behind a request that was refused is not read."""
    async with serving(echo) as url:
        said = await ask(url, get(b"/first") + b"nonsense\r\n\r\n" + get(b"/second"))
    assert b"GET /first" in said
    assert b"/second" not in said
    assert said.count(b"HTTP/1.1 ") == 2


async def test_a_unix_socket(tmp_path: Path) -> None:
    """A Unix socket is served at its path; one that a killed program has left is replaced."""
    path = tmp_path / "socket"
    for _ in range(2):
        async with serving(echo, f"unix:{path}") as url:
            assert url == f"http://unix:{path}"
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(get(b"/", CLOSING))
                assert (await read(stream)).endswith(b"GET / ")


async def test_several_addresses(tmp_path: Path) -> None:
    """A server listens at all its addresses, and a stop closes them all."""
    path = tmp_path / "socket"
    server = Server(echo, max_connections=20, max_message=1000, contains_interrupts=False)
    async with trio.open_nursery() as nursery:
        binds = ("127.0.0.1:0", "127.0.0.1:0", f"unix:{path}")
        urls = await nursery.start(server.serve, *binds)
        assert len(set(urls)) == 3
        for url in urls[:2]:
            assert (await ask(url, get(b"/", CLOSING))).endswith(b"GET / ")
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(get(b"/", CLOSING))
            assert (await read(stream)).endswith(b"GET / ")
        await server.stop_accepting()
        for url in urls[:2]:
            port = int(url.rpartition(":")[2])
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
        server.abort()


async def test_one_address_that_is_taken(tmp_path: Path) -> None:
    """An address that is taken leaves none of the others open."""
    first, other = tmp_path / "first", tmp_path / "other"
    server = Server(echo, max_connections=20, max_message=1000, contains_interrupts=False)
    async with serving(echo, f"unix:{first}"):
        with pytest.raises(OSError, match=str(errno.EADDRINUSE)):
            await server.serve(
                f"unix:{other}", f"unix:{first}", task_status=trio.TASK_STATUS_IGNORED
            )
        with pytest.raises(ConnectionRefusedError):
            await trio.open_unix_socket(other)
        async with await trio.open_unix_socket(first) as stream:
            await stream.send_all(get(b"/", CLOSING))
            assert (await read(stream)).endswith(b"GET / ")


async def test_a_client_that_does_not_take_its_answer() -> None:
    """A response larger than all buffers waits for its client, and is complete in the end."""
    size = 20 * 1024 * 1024

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"x" * size)

    async with serving(large) as url, await connect(url) as stream:
        await stream.send_all(get(b"/", CLOSING))
        await trio.sleep(0.1)
        said = await read(stream, within=20)
    assert said.endswith(b"x" * 1000)
    assert len(said) > size
