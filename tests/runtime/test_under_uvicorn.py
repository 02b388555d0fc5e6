"""A FastAPI service under a real uvicorn takes a program in, and takes it with it when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.process, pytest.mark.real_time]

SERVICE = """
import os
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from fastapi import FastAPI, Request

from quart import websocket
from trivet import Event, EventPlugin, aio, route, websocket_route


class Order(Event):
    number: int


class Tally(EventPlugin[Order]):
    total: int = 0

    async def handle_event(self, event: Order) -> None:
        await trio.sleep(0.01)
        self.total += event.number

    @route("/tally")
    async def tally(self) -> dict[str, int]:
        return {"total": self.total}

    @websocket_route("/news")
    async def news(self) -> None:
        await websocket.send("news")

    async def close(self) -> None:
        Path(f"closed-{os.getpid()}").write_text(str(self.total))


@asynccontextmanager
async def lifespan(app):
    async with aio.open_runtime(plugins=[Tally]) as runtime:
        app.state.runtime = runtime
        app.mount("/plugins", runtime.app)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{number}")
async def order(number: int, request: Request):
    outcome = await request.app.state.runtime.publish(Order(number), wait=number == 0)
    return {"fate": outcome.fates["tally"].value, "process": os.getpid()}
"""


@contextmanager
def uvicorn(
    directory: Path, *options: str
) -> Generator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Serve the service; the socket is there before the server is."""
    (directory / "service.py").write_text(SERVICE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        number = str(listener.fileno())
        command = [sys.executable, "-m", "uvicorn", "service:app", "--fd", number, *options]
        with (
            subprocess.Popen(
                command,
                cwd=directory,
                pass_fds=[listener.fileno()],
                env={**os.environ, "PYTHONPATH": "."},
            ) as server,
            httpx.Client(base_url=url, timeout=60) as client,
        ):
            try:
                yield server, client
            finally:
                server.kill()


@pytest.mark.parametrize(
    "options", [["--loop", "asyncio"], ["--loop", "uvloop"], ["--workers", "2"]]
)
def test_a_program_in_a_fastapi_service(tmp_path: Path, options: list[str]) -> None:
    """Requests publish, the plugin's route is mounted, and SIGTERM drains the inbox, and closes."""
    with uvicorn(tmp_path, *options) as (server, client):
        assert client.post("/orders/0").json()["fate"] == "handled"
        answers = [client.post("/orders/1").json() for _ in range(20)]
        assert {each["fate"] for each in answers} == {"queued"}
        assert client.get("/plugins/tally").json()["total"] in range(21)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) in (0, -signal.SIGTERM)  # uvicorn hands the signal on at its end.
    totals = [int(file.read_text()) for file in tmp_path.glob("closed-*")]
    assert len(totals) == (2 if "--workers" in options else 1)
    assert sum(totals) == 20


EVIL = "evil.example"
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_the_doors_of_a_program_in_a_fastapi_service(tmp_path: Path) -> None:
    """Scopes, hosts and sites hold below the service's path as anywhere, and the service's own
    routes are its affair."""
    with uvicorn(tmp_path) as (_, client):

        def status(method: str, path: str, **headers: str) -> int:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            content = b'{"number": 1}' if method == "POST" else None
            given |= {"Content-Type": "application/json"} if content else {}
            return client.request(method, path, content=content, headers=given).status_code

        assert status("POST", "/plugins/events/order") == 202
        assert status("POST", "/plugins/events/order", Host=EVIL) == 421
        assert status("POST", "/plugins/events/order", Origin=f"http://{EVIL}") == 403
        assert status("POST", "/plugins/events/order", Sec_Fetch_Site="same-site") == 403
        assert status("POST", "/plugins/events/monitoring_event") == 403
        assert status("GET", "/plugins/-/plugins") == 403
        assert status("GET", "/plugins/tally", Host=EVIL) == 421
        assert status("GET", "/plugins/livez", Host=EVIL) == 200
        assert status("GET", "/plugins/openapi.json") == 200
        assert status("GET", "/plugins/news", **HANDSHAKE, Origin=f"http://{EVIL}") == 403
        assert status("GET", "/plugins/news", **HANDSHAKE, Host=EVIL) == 421
        assert status("GET", "/openapi.json", Host=EVIL) == 200
        servers = client.get("/plugins/openapi.json").json()["servers"]
        assert servers == [{"url": "/plugins"}]
