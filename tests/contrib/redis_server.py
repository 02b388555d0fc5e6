"""A redis-server of the tests' own, on a free port, in a directory of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import coredis
import trio
from coredis.retry import NoRetryPolicy
from coredis.tokens import PureToken

from trivet_contrib._brokers._client import Message

from .programs import Program, free_port, needs
from .suite import Server, Table

needs_redis = needs("redis-server")
STREAM, GROUP, USER = "orders", "billing", "clerk"


class RedisServer(Program, Server):
    """A redis-server with an append-only file, so that a kill costs nothing.

    With `everysec`, Redis's default, it would: beside a disk that is slow, Redis confirms commands
    which it has not handed to the system for two seconds.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        super().__init__(directory)
        self._options = {"appendonly": "yes", "appendfsync": "no", "save": "", **options}

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis://127.0.0.1:{self.port}"

    def settings(self, **others: object) -> Table:
        """See `Server`."""
        return {"url": self.url, "stream": STREAM, **others}

    def through(self, port: int) -> Table:
        """See `Server`."""
        return self.settings(url=f"redis://127.0.0.1:{port}")

    def with_password(self, password: str) -> Table:
        """See `Server`."""
        return self.settings(url=f"redis://{USER}:{password}@127.0.0.1:{self.port}")

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[coredis.Redis[bytes]]:
        """A bare client."""
        made = coredis.Redis.from_url(self.url, retry_policy=NoRetryPolicy(), verify_version=False)
        async with made as client:
            yield client

    async def allow(self, password: str | None) -> None:
        """See `Server`."""
        rules = ["reset"] if password is None else ["on", "~*", "&*", "+@all", f">{password}"]
        async with self.client() as client:
            await client.acl_setuser(USER, *rules)
            if password is None:
                await client.client_kill(user=USER)

    async def cut(self) -> None:
        """Cut all other connections."""
        async with self.client() as client:
            await client.client_kill(type_=PureToken.NORMAL, skipme=True)

    async def start(self) -> None:
        """See `Server`."""
        options = [word for name, value in self._options.items() for word in (f"--{name}", value)]
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        self.run("redis-server", *place, *options)
        while not await self._answers():
            if self.pid is None:  # Another program has taken the port meanwhile.
                assert "in use" in self.said
                self.port = free_port()
                await self.start()
                return
            await trio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        except OSError:
            return False
        async with stream:
            await stream.send_all(b"PING\r\n")
            if bytes(await stream.receive_some(64)) != b"+PONG\r\n":  # It may be -LOADING.
                return False
        async with self.client() as client:
            facts = await client.info("server")
        return facts["process_id"] == self.pid

    async def send(self, messages: Sequence[Message]) -> None:
        """See `Server`."""
        async with self.client() as client, client.pipeline(transaction=False) as pipeline:
            for message in messages:
                pipeline.xadd(STREAM, {**message.headers, "data": message.body})

    async def messages(self) -> list[Message]:
        """See `Server`."""
        return await self._in(STREAM)

    async def _in(self, stream: str) -> list[Message]:
        async with self.client() as client:
            entries = await client.xrange(stream)
        found: list[Message] = []
        for entry in entries:
            fields = cast("dict[bytes, bytes]", entry.field_values)
            headers = {name.decode(): value.decode() for name, value in fields.items()}
            headers.pop("data", None)
            found.append(Message(fields.get(b"data", b""), headers))
        return found

    async def unacknowledged(self) -> int:
        """See `Server`."""
        async with self.client() as client:
            groups = await client.xinfo_groups(STREAM)
        return sum(int(cast("int", group[b"pending"])) for group in groups)

    async def limit(self) -> int:
        """See `Server`."""
        async with self.client() as client:
            await client.config_set({"proto-max-bulk-len": 1 << 20})
        return 1 << 20

    async def dead(self) -> list[tuple[Message, str]]:
        """See `Server`."""
        letters = await self._in(f"{STREAM}:dead")
        return [(letter, letter.headers["dead-reason"]) for letter in letters]


@asynccontextmanager
async def redis_server(directory: Path, **options: str) -> AsyncGenerator[RedisServer]:
    """A server for a test, with the stream."""
    server = RedisServer(directory, **options)
    try:
        await server.start()
        async with server.client() as client:
            identifier = await client.xadd(STREAM, {"data": "{}"})
            assert identifier is not None
            await client.xdel(STREAM, [identifier])
        yield server
    finally:
        with trio.CancelScope(shield=True):
            server.resume()
            await server.kill()
