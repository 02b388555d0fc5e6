"""nginx and Caddy in front of `trivet serve`, with the samples of docs/deploy."""

from __future__ import annotations

import getpass
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
import trio

from ..contrib.programs import Program, needs
from ..runtime.process.test_serve import serving

pytestmark = [pytest.mark.process, pytest.mark.broker]

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
NAME = "trivet.example.org"
FRONT = """
    from quart import websocket

    from trivet import Event, EventPlugin, EventStream, route, websocket_route

    class Tea(Event):
        cups: int

    class Front(EventPlugin[Tea]):
        async def initialize(self):
            self.cups = 0

        async def handle_event(self, event):
            self.cups += event.cups

        @route("/cups")
        async def all_cups(self):
            return {"cups": self.cups}

        @route("/stream")
        async def stream(self):
            return EventStream(self.first_and_nothing_more())

        async def first_and_nothing_more(self):
            yield "first"
            await self.stopping.wait()

        @websocket_route("/echo")
        async def echo(self):
            await websocket.send(await websocket.receive())
"""


class Nginx(Program):
    """nginx with the sample, in the foreground."""

    def start(self, upstream: str) -> None:
        sample = (DEPLOY / "nginx.conf").read_text("utf-8")
        assert sample.count("listen 80;") == 1
        assert sample.count("127.0.0.1:8080") == 1
        site = sample.replace("listen 80;", f"listen 127.0.0.1:{self.port};")
        temporary = "".join(
            f"{name}_temp_path {self.directory}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = self.directory / "nginx.conf"
        file.write_text(
            f"user {getpass.getuser()};\ndaemon off;\npid {self.directory}/pid;\n"
            f"error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\n"
            f"{site.replace('127.0.0.1:8080', upstream)}\n}}\n"
        )
        self.run("nginx", "-p", str(self.directory), "-c", str(file))


class Caddy(Program):
    """Caddy with the sample, over plain HTTP, and with no state outside the test's directory."""

    def start(self, upstream: str) -> None:
        sample = (DEPLOY / "Caddyfile").read_text("utf-8")
        assert sample.count(f"\n{NAME} {{") == 1
        assert sample.count("127.0.0.1:8080") == 1
        site = sample.replace(f"\n{NAME} {{", f"\nhttp://{NAME}:{self.port} {{")
        file = self.directory / "Caddyfile"
        file.write_text("{\n\tadmin off\n}\n" + site.replace("127.0.0.1:8080", upstream))
        places = [f"XDG_{name}_HOME={self.directory}" for name in ("CONFIG", "DATA")]
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]
        self.run("env", *places, *command)


PROXIES = [
    pytest.param(Nginx, marks=needs("nginx"), id="nginx"),
    pytest.param(Caddy, marks=needs("caddy"), id="caddy"),
]


@asynccontextmanager
async def in_front(
    kind: type[Nginx | Caddy], directory: Path
) -> AsyncGenerator[tuple[httpx.AsyncClient, int]]:
    """The proxy in front of a program; yields a client of the proxy, and the proxy's port."""
    (directory / "front.py").write_text(dedent(FRONT))
    (directory / "trivet.toml").write_text(f'allowed_hosts = ["{NAME}"]')
    proxy = kind(directory)
    async with serving("front", directory=directory) as server:
        proxy.start(server.url.removeprefix("http://"))
        try:
            with trio.fail_after(30):
                while not await _answers(proxy):
                    assert proxy.pid is not None, proxy.said
                    await trio.sleep(0.02)
            base = f"http://127.0.0.1:{proxy.port}"
            async with httpx.AsyncClient(
                base_url=base, headers={"Host": NAME}, trust_env=False
            ) as client:
                yield client, proxy.port
        finally:
            await proxy.kill()  # noqa: ASYNC102 - without a checkpoint


async def _answers(proxy: Program) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{proxy.port}/livez"
            return (await client.get(url, headers={"Host": NAME})).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("kind", PROXIES)
async def test_requests_come_through(kind: type[Nginx | Caddy], tmp_path: Path) -> None:
    """Clients read and publish by the public name; a browser's own page publishes, too."""
    async with in_front(kind, tmp_path) as (client, _):
        for headers in ({}, {"Origin": f"http://{NAME}"}):
            answer = await client.post("/events/tea", json={"cups": 2}, headers=headers)
            assert answer.status_code == 202, answer.text
        with trio.fail_after(10):
            while (await client.get("/cups")).json() != {"cups": 4}:
                await trio.sleep(0.01)
        other = {"Origin": "http://elsewhere.example"}
        answer = await client.post("/events/tea", json={"cups": 2}, headers=other)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "cross_site")


@pytest.mark.parametrize("kind", PROXIES)
async def test_events_arrive_when_they_are_sent(kind: type[Nginx | Caddy], tmp_path: Path) -> None:
    """The first of a stream's events arrives although nothing follows."""
    async with in_front(kind, tmp_path) as (_, port):
        with trio.fail_after(10):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(f"GET /stream HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            await until(stream, b"data: first")
            await stream.aclose()


@pytest.mark.parametrize("kind", PROXIES)
async def test_websockets_come_through(kind: type[Nginx | Caddy], tmp_path: Path) -> None:
    """A websocket is opened through the proxy, and carries messages both ways."""
    async with in_front(kind, tmp_path) as (_, port):
        with trio.fail_after(10):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(
                f"GET /echo HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert (await until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            await stream.send_all(b"\x81\x83\0\0\0\0tea")
            await until(stream, b"tea")
            await stream.aclose()


async def until(stream: trio.SocketStream, end: bytes) -> bytes:
    """Read until these bytes have come."""
    answer = b""
    while end not in answer:
        received = await stream.receive_some()
        assert received, answer
        answer += received
    return answer
