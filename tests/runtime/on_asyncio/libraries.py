"""Libraries for asyncio, each used in a plugin as its own documents show it.

This is a plugin file, too: it prints the results and ends the program. The imports stand at the
top, where authors have them: before anything has imported trio-asyncio.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import aiohttp
import anyio.to_thread
import httpx
from aiohttp import web

from trivet import AsyncioPlugin, BackgroundPlugin

# They have no types, or not all.
aiofiles: Any = import_module("aiofiles")
aiomqtt: Any = import_module("aiomqtt")
aiosqlite: Any = import_module("aiosqlite")
asyncpg: Any = import_module("asyncpg")
nats: Any = import_module("nats")
psycopg: Any = import_module("psycopg")
psycopg_pool: Any = import_module("psycopg_pool")
redis: Any = import_module("redis.asyncio")
sqlalchemy: Any = import_module("sqlalchemy")
sqlalchemy_asyncio: Any = import_module("sqlalchemy.ext.asyncio")
websockets: Any = import_module("websockets")

PORTS = "LIBRARY_PORTS"
"""The variable with the servers' ports, as JSON."""
NAME = "trivet-tests"
LIMIT = 60.0
"""Seconds for one library."""


async def _served(request: web.Request) -> web.Response:
    return web.Response(text="served")


async def _with_a_server(fetch: Callable[[str], Awaitable[str]]) -> None:
    server = web.Application()
    server.router.add_get("/", _served)
    runner = web.AppRunner(server)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port, *_ = runner.addresses[0]
        assert await fetch(f"http://{host}:{port}/") == "served"
    finally:
        await runner.cleanup()


class Probes:
    """One probe for each library, which gets the port of the library's server, or 0."""

    @staticmethod
    async def aiofiles(port: int) -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with aiofiles.open(f"{directory}/a", "w") as file:
                await file.write("a\nb\n")
            async with aiofiles.open(f"{directory}/a") as file:
                assert [line async for line in file] == ["a\n", "b\n"]

    @staticmethod
    async def aiohttp(port: int) -> None:
        async def fetch(url: str) -> str:
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return await answer.text()

        await _with_a_server(fetch)

    @staticmethod
    async def httpx(port: int) -> None:
        async def fetch(url: str) -> str:
            async with httpx.AsyncClient() as session:
                return (await session.get(url)).text

        await _with_a_server(fetch)

    @staticmethod
    async def anyio(port: int) -> None:
        with anyio.move_on_after(0.01) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
        assert scope.cancelled_caught
        assert await anyio.to_thread.run_sync(sum, (1, 2)) == 3

    @staticmethod
    async def aiosqlite(port: int) -> None:
        async with aiosqlite.connect(":memory:") as database:
            async with database.execute("SELECT 7") as cursor:
                assert await cursor.fetchone() == (7,)

    @staticmethod
    async def websockets(port: int) -> None:
        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

        async with websockets.serve(echo, "127.0.0.1", 0) as server:
            _, port, *_ = server.sockets[0].getsockname()
            async with websockets.connect(f"ws://127.0.0.1:{port}") as connection:
                await connection.send("tea")
                assert await connection.recv() == "tea"

    @staticmethod
    async def subprocesses(port: int) -> None:
        program = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        output, _ = await program.communicate(b"tea")
        assert output == b"tea"
        assert program.returncode == 0

    @staticmethod
    async def to_thread(port: int) -> None:
        assert await asyncio.to_thread(sum, (1, 2)) == 3

    @staticmethod
    async def psycopg(port: int) -> None:
        where = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        async with await psycopg.AsyncConnection.connect(where) as connection:
            cursor = await connection.execute("SELECT 7")
            assert await cursor.fetchone() == (7,)
        async with psycopg_pool.AsyncConnectionPool(where, min_size=2, open=False) as pool:

            async def ask(number: int) -> int:
                async with pool.connection() as connection:
                    cursor = await connection.execute("SELECT %s::int", (number,))
                    (answer,) = await cursor.fetchone()
                    return int(answer)

            assert await asyncio.gather(*map(ask, range(4))) == [0, 1, 2, 3]

    @staticmethod
    async def asyncpg(port: int) -> None:
        where = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        async with asyncpg.create_pool(where, min_size=1) as pool:
            assert await pool.fetchval("SELECT $1::int", 7) == 7

    @staticmethod
    async def sqlalchemy(port: int) -> None:
        where = f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"
        engine = sqlalchemy_asyncio.create_async_engine(where)
        async with engine.begin() as connection:
            assert (await connection.execute(sqlalchemy.text("SELECT 7"))).scalar() == 7
        await engine.dispose()

    @staticmethod
    async def redis(port: int) -> None:
        async with redis.Redis(port=port) as client, client.pubsub() as listening:
            await client.set(NAME, "tea")
            assert await client.get(NAME) == b"tea"
            await listening.subscribe(NAME)
            await client.publish(NAME, "tea")
            message: Any = None
            while message is None:
                message = await listening.get_message(ignore_subscribe_messages=True, timeout=1)
            assert message["data"] == b"tea"

    @staticmethod
    async def nats(port: int) -> None:
        async with await nats.connect(f"nats://127.0.0.1:{port}") as client:
            listening = await client.subscribe(NAME)
            await client.publish(NAME, b"tea")
            assert (await listening.next_msg(timeout=LIMIT)).data == b"tea"

    @staticmethod
    async def aiomqtt(port: int) -> None:
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe(NAME)
            await client.publish(NAME, "tea")
            async for message in client.messages:
                assert message.payload == b"tea"
                break


SERVERS = {
    "psycopg": "postgres",
    "asyncpg": "postgres",
    "sqlalchemy": "postgres",
    "redis": "redis-server",
    "nats": "nats-server",
    "aiomqtt": "mosquitto",
}
"""The program that a library speaks to."""
LIBRARIES = [name for name in vars(Probes) if not name.startswith("_")]


class Libraries(AsyncioPlugin, BackgroundPlugin):
    """Tries out the libraries whose servers run."""

    async def found(self, ports: dict[str, int]) -> dict[str, str]:
        """The end of each library's probe: `works`, or the error."""
        there = [name for name in LIBRARIES if SERVERS.get(name, "") in {"", *ports}]
        ends = await asyncio.gather(*(self._end(name, ports) for name in there))
        return dict(zip(there, ends, strict=True))

    async def _end(self, name: str, ports: dict[str, int]) -> str:
        try:
            async with asyncio.timeout(LIMIT):
                await getattr(Probes, name)(ports.get(SERVERS.get(name, ""), 0))
        except Exception as error:
            return repr(error)
        return "works"

    async def run(self) -> None:
        if PORTS in os.environ:
            found = await self.found(json.loads(os.environ[PORTS]))
            sys.stdout.write(json.dumps({"found": found}) + "\n")
            sys.exit()
        await asyncio.Event().wait()
