"""An influxd of the tests' own, on free ports, in a directory of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from .programs import free_port, needs

needs_influx = needs("influxd")
ADMIN = ("root", "r00t")
DATABASE, USER, PASSWORD = "monitoring", "clerk", "s3cret"

_CONFIGURATION = """
reporting-disabled = true
bind-address = "127.0.0.1:{backup_port}"
[meta]
dir = "{directory}/meta"
[data]
dir = "{directory}/data"
wal-dir = "{directory}/wal"
[http]
bind-address = "127.0.0.1:{port}"
auth-enabled = true
[monitor]
store-enabled = false
"""


class InfluxServer:
    """Of version 1, which asks who writes. What it has answered 204 to survives a kill."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **others: object) -> dict[str, dict[str, Any]]:
        """What stands in `[plugins.influx]`, with others instead or besides."""
        login = {"username": USER, "password": PASSWORD}
        return {"influx": {"url": self.url, "database": DATABASE, **login, **others}}

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        file = self._directory / "influxdb.conf"
        file.write_text(
            _CONFIGURATION.format(
                directory=self._directory, port=self.port, backup_port=free_port()
            )
        )
        with (self._directory / "log").open("ab") as log:
            command = ["influxd", "-config", str(file)]
            self._process = subprocess.Popen(  # noqa: ASYNC220 - at once
                command, stdout=log, stderr=log
            )
        while not await self._answers():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            await trio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(f"{self.url}/ping")).status_code == 204
        except httpx.TransportError:
            return False

    async def query(self, statement: str) -> list[dict[str, Any]]:
        """The rows that a statement of the administrator's gives, times in nanoseconds."""
        async with httpx.AsyncClient(auth=ADMIN, trust_env=False) as http:
            parameters = {"q": statement, "db": DATABASE, "epoch": "ns"}
            answer = await http.post(f"{self.url}/query", params=parameters)
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["results"]
        assert "error" not in result, result
        return [
            dict(zip(series["columns"], row, strict=True))
            for series in result.get("series", [])
            for row in series["values"]
        ]

    async def kill(self) -> None:
        """End it as a fault of its machine would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Have it stand still."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@asynccontextmanager
async def influx_server(directory: Path) -> AsyncGenerator[InfluxServer]:
    """A server that has the database, and a user who may write into it, for a test."""
    server = InfluxServer(directory)
    try:
        await server.start()
        name, password = ADMIN
        await server.query(f"CREATE USER {name} WITH PASSWORD '{password}' WITH ALL PRIVILEGES")
        await server.query(f"CREATE DATABASE {DATABASE}")
        await server.query(f"CREATE USER {USER} WITH PASSWORD '{PASSWORD}'")
        await server.query(f"GRANT WRITE ON {DATABASE} TO {USER}")
        yield server
    finally:
        with trio.CancelScope(shield=True):
            server.resume()
            await server.kill()
