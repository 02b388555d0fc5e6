"""The doors of whole services: `trivet serve`, and the same program under hypercorn."""

from __future__ import annotations

import socket
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
import trio

from .test_serve import eventually, running

pytestmark = pytest.mark.process

SHOP = """
    from trivet import BackgroundPlugin, Event, route

    class Ping(Event):
        number: int = 0

    class Shop(BackgroundPlugin):
        @route("/shop", methods=["GET", "POST"])
        async def shop(self) -> str:
            self.log.info("somebody is in the shop")
            return "open"
"""
SETTINGS = """
active_plugins = ["shop"]
plugins_directory = "."
bind = "{}:0"
"""
SECRET = "of-the-clerk-in-the-shop"
TOKEN = """
[[tokens]]
name = "clerk"
scopes = ["ingest", "read"]
secret = {{ file = "clerk" }}
"""
EVIL = "evil.example"
ONCE = httpx.Limits(max_keepalive_connections=0)
"""A connection for each request: a server may close one whose request it has not read."""


def written(directory: Path, text: str, bind: str = "127.0.0.1") -> Path:
    """The directory of a program with these settings."""
    (directory / "shop.py").write_text(dedent(SHOP))
    (directory / "trivet.toml").write_text((SETTINGS + text).format(bind))
    (directory / "clerk").write_text(f"{SECRET}\n")
    (directory / "clerk").chmod(0o600)
    return directory


async def tried(client: httpx.AsyncClient) -> None:
    """Try the doors of a service with a token for publishing and reading, and none for more."""
    good = {"Authorization": f"Bearer {SECRET}"}
    wrong = {"Authorization": f"Bearer {SECRET}x"}
    for method, path, expected in (
        ("POST", "/events/ping", 202),
        ("GET", "/plugins", 200),
        ("GET", "/shop", 200),
        ("POST", "/shop", 200),
        ("POST", "/-/plugins/shop/restart", 403),
    ):

        async def ask(method: str = method, path: str = path, **headers: str) -> int:
            answer = await client.request(method, path, json={}, headers=headers)
            assert SECRET not in answer.text
            return answer.status_code

        without = 403 if expected == 403 else 401
        assert await ask() == without
        assert await ask(**wrong) == without
        assert await ask(**good) == expected
        assert await ask(Host=EVIL) == 421
        assert await ask(Host=EVIL, **good) == expected
        if method == "POST":
            assert await ask(Origin=f"http://{EVIL}") == 403
    assert (await client.get("/livez", headers={"Host": "10.0.0.1:8080"})).status_code == 200


async def test_trivet_serve(tmp_path: Path) -> None:
    """With a token the service is on every address, and lets in who has it; the log has the token's
    name in each line of a request, and never its secret."""
    directory = written(tmp_path, TOKEN, "0.0.0.0")
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0].replace("0.0.0.0", "127.0.0.1")
        async with httpx.AsyncClient(base_url=url) as client:
            await tried(client)
        assert (await server.logged("somebody is in the shop"))["token"] == "clerk"
        assert (await server.logged("wrong token"))["client"] == "127.0.0.1"
        assert await server.stop() == 0
        await server.has_said_all()
    assert SECRET not in "\n".join(server.text)


async def test_hypercorn(tmp_path: Path) -> None:
    """Under somebody else's server the same doors are shut, and a refusal before the body says that
    the connection is closed."""
    directory = written(tmp_path, TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["hypercorn", "-k", "trio", "trivet.asgi:app", "--bind", address]
    async with running(command, directory) as server:
        async with httpx.AsyncClient(base_url=f"http://{address}", limits=ONCE) as client:
            await eventually(client, "/readyz")
            await tried(client)
        for path in ("/events/ping", "/shop", "/nowhere"):
            assert b"connection: close" in await refused_before_the_body(address, path)
        assert await server.stop() == 0


async def refused_before_the_body(address: str, path: str) -> bytes:
    """The head of the response to a request that has not sent its body, in lower case."""
    host, _, port = address.partition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 2\r\n\r\n"
        await stream.send_all(head.encode())
        received = b""
        with trio.fail_after(60):
            while b"\r\n\r\n" not in received:
                received += await stream.receive_some()
    return received.partition(b"\r\n\r\n")[0].lower()


async def test_hypercorn_without_tokens(tmp_path: Path) -> None:
    """Under somebody else's server a start without tokens is told in one warning."""
    directory = written(tmp_path, "")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["hypercorn", "-k", "trio", "trivet.asgi:app", "--bind", address]
    async with running(command, directory) as server:
        said = "anybody whom this server lets in may publish and read"
        assert (await server.logged(said))["level"] == "warning"
        async with httpx.AsyncClient(base_url=f"http://{address}", limits=ONCE) as client:
            await eventually(client, "/readyz")
            assert (await client.post("/events/ping", json={})).status_code == 202
            answer = await client.post("/events/ping", json={}, headers={"Host": EVIL})
            assert answer.status_code == 421
        assert await server.stop() == 0


async def test_an_address_that_others_reach_ends_the_start(tmp_path: Path) -> None:
    """Without a token, a start at such an address ends with 2 and says what to write; `insecure`
    serves there, and is told."""
    directory = written(tmp_path, "", "0.0.0.0")
    async with running(["trivet", "serve"], directory) as server:
        assert await server.process.wait() == 2
        await server.has_said_all()
    said = "\n".join(server.text)
    assert "bind: other machines reach 0.0.0.0:0, and there are no tokens: write [[tokens]]" in said
    assert "`insecure = true`" in said
    assert "Traceback" not in said
    written(directory, "insecure = true", "0.0.0.0")
    async with running(["trivet", "serve"], directory) as server:
        told = await server.logged("insecure: clients without a token have these scopes")
        assert (told["level"], told["scopes"]) == ("warning", ["ingest", "read"])
        url = (await server.logged("serving"))["urls"][0].replace("0.0.0.0", "127.0.0.1")
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/shop")).status_code == 200
            assert (await client.get("/shop", headers={"Host": EVIL})).status_code == 421
            assert (await client.post("/-/plugins/shop/restart")).status_code == 403
        assert await server.stop() == 0


async def test_loopback_needs_nothing(tmp_path: Path) -> None:
    """On loopback a program without tokens is open for publishing and reading, without a word."""
    directory = written(tmp_path, "")
    async with running(["trivet", "serve"], directory) as server:
        url = (await server.logged("serving"))["urls"][0]
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.post("/events/ping", json={})).status_code == 202
            assert (await client.get("/plugins")).status_code == 200
            assert (await client.post("/-/plugins/shop/restart")).status_code == 403
        assert await server.stop() == 0
    assert not [line for line in server.lines if line["level"] == "warning"]
