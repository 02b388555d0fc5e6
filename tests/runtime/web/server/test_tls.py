"""A server with TLS, and clients that are slow, plain, uncertified or out of date."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from shutil import which
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import trustme
from quart import request, websocket
from structlog.testing import capture_logs

from trivet import BackgroundPlugin, TlsSettings, route, websocket_route
from trivet._web._asgi import Receive, Scope, Send
from trivet._web._server import _tls
from trivet._web._server._listening import Server
from trivet.testing import open_plugins, serving

from ..clients import UPGRADE, ask, connect, frame, get, post, read, status, until
from ..conftest import Authority

pytestmark = pytest.mark.real_time

LARGE = 8 * 1024 * 1024
REQUEST = b"GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n"
"""A request as one types it."""
HELLO = b"\x16\x03\x01\x02\x00\x01"
"""The beginning of a handshake."""


class Desk(BackgroundPlugin):
    """Routes that show how their client has come."""

    @route("/")
    async def home(self) -> str:
        return request.url

    @route("/large")
    async def large(self) -> bytes:
        return b"0123456789abcdef" * (LARGE // 16)

    @route("/size", methods=["POST"])
    async def size(self) -> str:
        return str(len(await request.get_data()))

    @websocket_route("/echo")
    async def echo(self) -> None:
        await websocket.send(f"{websocket.scheme} {await websocket.receive()!r}")


@asynccontextmanager
async def served(authority: Authority, **tls: Any) -> AsyncGenerator[str]:
    """The URL of a desk that speaks TLS."""
    settings = TlsSettings(certificate=authority.settings.certificate, **tls)
    async with open_plugins(Desk, tls=settings) as runtime, serving(runtime) as url:
        yield url


class Lines(list[str]):
    """The lines of the log about clients within a block, each with its reason."""

    def __enter__(self) -> Lines:
        self._capture = capture_logs()
        self._logs = self._capture.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._capture.__exit__(*error)
        for log in self._logs:
            if "client" in log:
                self.append(f"{log['event']}: {log.get('reason') or log.get('error')}")


def plain(url: str) -> str:
    """The URL for a client that speaks no TLS."""
    return url.replace("https:", "http:")


async def test_a_request_over_tls(trusted: Authority) -> None:
    """A client gets its response over TLS, again on the same connection, and sees `https` and
    `wss` as the scheme."""
    async with served(trusted) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            for _ in range(2):
                assert (await client.get("/")).text == f"{url}/"
            assert (await client.post("/size", content=b"x" * LARGE)).text == str(LARGE)
        async with await connect(url) as stream:
            await stream.send_all(UPGRADE % b"/echo" + b"\r\n")
            await until(stream, b"\r\n\r\n")
            await stream.send_all(frame(b"hello"))
            assert b"wss b'hello'" in await until(stream, b"hello'")


async def test_a_large_response_arrives_whole(trusted: Authority) -> None:
    """A client that reads slowly gets every byte, in order."""
    async with served(trusted) as url, await connect(url, room=4096) as stream:
        await stream.send_all(get(b"/large", b"Connection: close"))
        answer = bytearray()
        while data := await stream.receive_some(100_000):
            answer += data
            await trio.lowlevel.checkpoint()
    assert bytes(answer.partition(b"\r\n\r\n")[2]) == b"0123456789abcdef" * (LARGE // 16)


async def test_requests_in_a_row_over_tls(trusted: Authority) -> None:
    """Requests that come in one record, and one that comes in many, are answered in order."""
    async with served(trusted) as url, await connect(url) as stream:
        await stream.send_all(get(b"/") * 3)
        for byte in post(b"/size", b"four", b"Connection: close"):
            await stream.send_all(bytes([byte]))
        answer = await read(stream)
    assert answer.count(b"HTTP/1.1 200 ") == 4
    assert answer.endswith(b"4")


async def test_a_plain_request_is_answered_in_plain(authority: Authority) -> None:
    """A client that does not speak TLS is told so, in its own protocol, and in one line of the
    log."""
    with Lines() as lines:
        async with served(authority) as url:
            answer = await ask(plain(url), get(b"/"))
    assert status(answer) == 400
    assert b"https://" in answer
    assert lines == ["request refused: TLS is spoken here: write https://"]


async def drip(stream: trio.SocketStream) -> None:
    """Send a handshake byte by byte, without an end."""
    await stream.send_all(HELLO)
    while True:
        await stream.send_all(b"\0")
        await trio.sleep(0.02)


async def test_a_slow_handshake_is_bounded(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake that drips is ended when its time is over, however often bytes come."""
    monkeypatch.setattr(_tls, "HANDSHAKE_TIMEOUT", 0.3)
    with Lines() as lines:
        async with served(authority) as url, await connect(plain(url)) as stream:
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(60):
                await drip(stream)
    assert lines == ["TLS handshake failed: it was not complete within 0.3 s"]


async def test_a_client_that_says_nothing_is_no_line(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a byte, as a load balancer makes to probe a port, is not logged."""
    monkeypatch.setattr(_tls, "HANDSHAKE_TIMEOUT", 0.3)
    with Lines() as lines:
        async with served(authority) as url:
            assert await ask(plain(url), b"") == b""
            async with await connect(plain(url)):
                pass
    assert lines == []


@pytest.mark.parametrize(
    "sent", [b"\x16" + b"x" * 100, HELLO + b"\0\xff\xff\xff" + b"\0" * 600, b"\x16\x03\x01\0\0"]
)
async def test_noise_instead_of_a_handshake_is_one_line(authority: Authority, sent: bytes) -> None:
    """A client whose handshake makes no sense is disconnected, with one line."""
    with Lines() as lines:
        async with served(authority) as url:
            async with await connect(plain(url)) as stream:
                await stream.send_all(sent)
                await stream.send_eof()
                await read(stream)
    (line,) = lines
    assert line.startswith("TLS handshake failed: ")


async def test_a_stop_does_not_wait_for_a_handshake(authority: Authority) -> None:
    """A client in the middle of its handshake does not hold the stop."""
    async with served(authority) as url:
        stream = await connect(plain(url))
        await stream.send_all(HELLO)
        await trio.testing.wait_all_tasks_blocked(0.05)
        began = trio.current_time()
    assert trio.current_time() - began < 2.0
    await stream.aclose()


async def test_a_handshake_takes_a_place(authority: Authority) -> None:
    """A client in its handshake counts among the open connections."""
    async with open_plugins(Desk, tls=authority.settings, max_connections=1) as runtime:
        async with serving(runtime) as url, await connect(plain(url)) as held:
            await held.send_all(HELLO)
            async with await connect(plain(url)) as stream:
                assert await read(stream) == b""


def client_context(authority: Authority) -> ssl.SSLContext:
    """A client that trusts the authority."""
    return ssl.create_default_context(cafile=str(authority.file))


def present(context: ssl.SSLContext, certificate: trustme.LeafCert) -> None:
    """Have a client, or a server, show this certificate."""
    certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]


async def answer_to(url: str, context: ssl.SSLContext) -> int:
    """The status that a client gets; 0 without one."""
    async with httpx.AsyncClient(verify=context) as client:
        try:
            return (await client.get(url)).status_code
        except httpx.TransportError:
            return 0


async def test_clients_with_certificates(authority: Authority, tmp_path: Path) -> None:
    """With `client_ca` a client needs a certificate of that authority, and no other will do."""
    clients, strangers = trustme.CA(), trustme.CA()
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    right, wrong, none = (client_context(authority) for _ in range(3))
    present(right, clients.issue_cert("ann@example.org"))
    present(wrong, strangers.issue_cert("eve@example.org"))
    with Lines() as lines:
        async with served(authority, client_ca=tmp_path / "clients.pem") as url:
            assert await answer_to(url, right) == 200
            assert await answer_to(url, wrong) == 0
            assert await answer_to(url, none) == 0
            assert await answer_to(url, right) == 200
    assert len(lines) == 2
    assert all(line.startswith("TLS handshake failed: ") for line in lines)
    assert "the client's certificate is refused" in lines[0]


async def test_old_versions_are_refused(authority: Authority) -> None:
    """A client that speaks only a version below the lowest is refused, with a line."""
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with Lines() as lines:
        async with served(authority) as url:
            assert await answer_to(url, old) == 200
        async with served(authority, minimum_version="1.3") as url:
            assert await answer_to(url, old) == 0
            assert await answer_to(url, client_context(authority)) == 200
    (line,) = lines
    assert line.startswith("TLS handshake failed: ")


async def test_a_client_without_trust_is_one_line(authority: Authority) -> None:
    """A client that does not trust the certificate says so, and the log has it."""

    def shake_hands(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connected:
            ssl.create_default_context().wrap_socket(connected, server_hostname="127.0.0.1")

    with Lines() as lines:
        async with served(authority) as url:
            with pytest.raises(ssl.SSLCertVerificationError):
                await trio.to_thread.run_sync(shake_hands, int(url.rpartition(":")[2]))
    (line,) = lines
    assert "unknown ca" in line


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with one word."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello", "more_body": False})


async def test_a_certificate_is_swapped_while_connections_last(authority: Authority) -> None:
    """A new certificate serves new connections; one that is open keeps the old one."""

    def context(issued: trustme.LeafCert) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        present(made, issued)
        return made

    async def certificate(url: str) -> tuple[trio.SSLStream[trio.SocketStream], object]:
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", int(url.rpartition(":")[2]), ssl_context=client_context(authority)
        )
        await stream.do_handshake()
        return stream, stream.getpeercert()["serialNumber"]

    server = Server(
        hello,
        max_connections=10,
        max_message=1,
        contains_interrupts=True,
        tls=context(authority.ca.issue_cert("127.0.0.1")),
    )
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(server.serve, "127.0.0.1:0")
        old, first = await certificate(url)
        server.tls = context(authority.ca.issue_cert("127.0.0.1"))
        new, second = await certificate(url)
        assert first != second
        for stream in (old, new):
            await stream.send_all(get(b"/"))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            await stream.aclose()
        server.abort()
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(which("openssl") is None, reason="openssl is not on the PATH")
@pytest.mark.parametrize(
    ("version", "command", "taken", "is_answered"),
    [
        ("-tls1_3", b"K\n", b"KEYUPDATE", True),
        ("-tls1_2", b"R\n", b"RENEGOTIATING", False),
    ],
)
async def test_keys_are_renewed_and_nothing_is_renegotiated(
    authority: Authority, version: str, command: bytes, taken: bytes, *, is_answered: bool
) -> None:
    """An update of keys, as TLS 1.3 has it, is answered; a renegotiation of TLS 1.2 is refused."""
    async with served(authority) as url:
        address = url.removeprefix("https://")
        process = await trio.lowlevel.open_process(
            ["openssl", "s_client", "-connect", address, version, "-crlf"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        with trio.fail_after(60):
            while b"Verify return code" not in said:
                said += await process.stdout.receive_some()
            await process.stdin.send_all(command)
            while taken not in said:
                said += await process.stdout.receive_some()
            with suppress(trio.BrokenResourceError):
                await process.stdin.send_all(REQUEST)
            async for data in process.stdout:
                said += data
            await process.wait()
        assert (b"HTTP/1.1 200 " in said) is is_answered
        assert await answer_to(url, client_context(authority)) == 200
