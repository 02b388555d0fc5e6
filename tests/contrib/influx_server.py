"""An influxd of the tests' own, on free ports, in a directory of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from .http_suite import Receiver
from .programs import Program, free_port, needs, until_it_answers
from .suite import Table

needs_influx = needs("influxd")
ADMIN = ("root", "r00t")
DATABASE, USER, PASSWORD = "monitoring", "clerk", "s3cret"
READER = "reader"
"""A user who may not write."""

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


class InfluxServer(Program, Receiver):
    """An InfluxDB of version 1 with authentication; points that it answered 204 to survive a
    kill."""

    secret = PASSWORD

    def settings(self, **others: object) -> Table:
        """See `Receiver`."""
        url, login = f"http://127.0.0.1:{self.port}", {"username": USER, "password": PASSWORD}
        return {"url": url, "database": DATABASE, **login, **others}

    async def start(self) -> None:
        """See `Receiver`."""
        file = self.directory / "influxdb.conf"
        ports = {"port": self.port, "backup_port": free_port()}
        file.write_text(_CONFIGURATION.format(directory=self.directory, **ports))
        self.run("influxd", "-config", str(file))
        await until_it_answers(self, "/ping")

    async def query(self, statement: str) -> list[dict[str, Any]]:
        """The rows of an administrator's query, with times in nanoseconds."""
        async with httpx.AsyncClient(auth=ADMIN, trust_env=False) as http:
            parameters = {"q": statement, "db": DATABASE, "epoch": "ns"}
            url = f"http://127.0.0.1:{self.port}/query"
            answer = await http.post(url, params=parameters)
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["results"]
        assert "error" not in result, result
        return [
            dict(zip(series["columns"], row, strict=True))
            for series in result.get("series", [])
            for row in series["values"]
        ]

    async def allow(self, *, allowed: bool) -> None:
        """See `Receiver`."""
        password = PASSWORD if allowed else "0ther"
        await self.query(f"SET PASSWORD FOR {USER} = '{password}'")

    async def taken(self) -> list[int]:
        """See `Receiver`."""
        return sorted(row["value"] for row in await self.query("SELECT * FROM orders"))


@asynccontextmanager
async def influx_server(directory: Path) -> AsyncGenerator[InfluxServer]:
    """A server for a test, with the database, and with a user who may write to it."""
    server = InfluxServer(directory)
    try:
        await server.start()
        name, password = ADMIN
        await server.query(f"CREATE USER {name} WITH PASSWORD '{password}' WITH ALL PRIVILEGES")
        await server.query(f"CREATE DATABASE {DATABASE}")
        await server.query(f"CREATE USER {USER} WITH PASSWORD '{PASSWORD}'")
        await server.query(f"CREATE USER {READER} WITH PASSWORD '{PASSWORD}'")
        await server.query(f"GRANT WRITE ON {DATABASE} TO {USER}")
        yield server
    finally:
        with trio.CancelScope(shield=True):
            server.resume()
            await server.kill()
