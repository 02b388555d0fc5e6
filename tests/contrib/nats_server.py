"""A nats-server of the tests' own, with JetStream, on a free port, in a directory of its own."""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, cast

import nats
import trio
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from trivet_contrib._brokers._client import Message

from .programs import Program, free_port, needs
from .suite import Server, Table

needs_nats = needs("nats-server")
STREAM, CONSUMER, USER = "orders", "billing", "clerk"
OWN_PASSWORD = "0wn"
MAX_PAYLOAD = 100_000
"""Bytes of a message, at most."""

T = TypeVar("T")


class NatsServer(Program, Server):
    """A nats-server with its store on disk, so that a kill costs nothing."""

    def __init__(self, directory: Path, *, jetstream: bool = True) -> None:
        super().__init__(directory)
        self.config = directory / "nats.conf"
        self._jetstream = jetstream
        self.more = ""
        """Further lines of the configuration."""
        self.nkeys: list[str] = []
        """The public keys of admitted users."""
        self._users: dict[str, tuple[str, str]] = {"tests": (OWN_PASSWORD, "")}

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"nats://tests:{OWN_PASSWORD}@127.0.0.1:{self.port}"

    def settings(self, **others: object) -> Table:
        """See `Server`."""
        return {"url": self.url, "stream": STREAM, "create": True, **others}

    def through(self, port: int) -> Table:
        """See `Server`."""
        return self.settings(url=f"nats://tests:{OWN_PASSWORD}@127.0.0.1:{port}")

    def with_password(self, password: str) -> Table:
        """See `Server`."""
        return self.settings(url=f"nats://{USER}:{password}@127.0.0.1:{self.port}")

    async def client(self, ask: Callable[[JetStreamContext], Awaitable[T]]) -> T:
        """Send a request with a bare client."""

        async def asked() -> T:
            async with await nats.connect(self.url, allow_reconnect=False) as client:
                return await ask(client.jetstream())

        return await trio.to_thread.run_sync(lambda: asyncio.run(asked()))

    async def allow(self, password: str | None) -> None:
        """See `Server`."""
        if password is not None:
            await self.admit(USER, password)
            return
        known = self._users.pop(USER)[0]
        self._reload()
        while await self._lets_in(USER, known):
            await trio.sleep(0.01)

    async def admit(self, user: str, password: str, permissions: str = "") -> None:
        """Admit a user, with permissions in the configuration's form."""
        self._users[user] = (password, permissions)
        self._reload()
        while not await self._lets_in(user, password):
            await trio.sleep(0.01)

    def _reload(self) -> None:
        self._write()
        self._signal(signal.SIGHUP)

    async def _lets_in(self, user: str, password: str) -> bool:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            options = {"user": user, "pass": password, "verbose": False}
            await stream.send_all(f"CONNECT {json.dumps(options)}\r\nPING\r\n".encode())
            answer = b""
            while b"PONG" not in answer and b"-ERR" not in answer:
                answer += await stream.receive_some(4096)
        return b"PONG" in answer

    def _write(self) -> None:
        users = "".join(
            f"    {{ user: {user}, password: {json.dumps(password)}, {permissions} }}\n"
            for user, (password, permissions) in self._users.items()
        )
        users += "".join(f"    {{ nkey: {each} }}\n" for each in self.nkeys)
        jetstream = f"jetstream {{ store_dir: {json.dumps(str(self.directory))} }}\n"
        self.config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n{jetstream if self._jetstream else ""}'
            f"max_payload: {MAX_PAYLOAD}\nauthorization {{\n  users = [\n{users}  ]\n}}\n"
            f"{self.more}"
        )

    async def start(self) -> None:
        """See `Server`."""
        self._write()
        self.run("nats-server", "-c", str(self.config))
        while not await self._answers():
            if self.pid is None:  # Another program has taken the port meanwhile.
                assert "in use" in self.said
                self.port = free_port()
                await self.start()
                return
            await trio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                return (await stream.receive_some(4096)).startswith(b"INFO")
        except OSError:
            return False

    async def make_stream(self, name: str = STREAM, **others: object) -> None:
        """Make a stream that listens to its name."""
        config = StreamConfig(name=name, subjects=[name]).evolve(**others)
        await self.client(lambda js: js.add_stream(config))

    async def change_stream(self, name: str = STREAM, /, **others: object) -> None:
        """Change the configuration of a stream."""
        config = StreamConfig(name=name, subjects=[name]).evolve(**others)
        await self.client(lambda js: js.update_stream(config))

    async def send(self, messages: Sequence[Message]) -> None:
        """See `Server`."""

        async def send(js: JetStreamContext) -> None:
            asked = [
                await js.publish_async(STREAM, each.body, headers=dict(each.headers) or None)
                for each in messages
            ]
            await asyncio.gather(*asked)

        await self.client(send)

    async def _line(self) -> trio.SocketStream:
        """A bare TCP connection."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        options = {"user": "tests", "pass": OWN_PASSWORD, "verbose": False, "headers": True}
        await stream.send_all(f"CONNECT {json.dumps(options)}\r\n".encode())
        return stream

    async def send_raw(self, frame: bytes) -> None:
        """Publish a message whose bytes are given."""
        async with await self._line() as stream:
            await stream.send_all(frame + b"PING\r\n")
            said = b""
            while b"PONG" not in said:
                said += await stream.receive_some(4096)
        assert b"-ERR" not in said, said

    @asynccontextmanager
    async def answering(self, subject: str, answers: Sequence[bytes]) -> AsyncGenerator[None]:
        """Answer each message, with all of these, before the stream does."""
        async with await self._line() as stream, trio.open_nursery() as nursery:
            await stream.send_all(f"SUB {subject} 1\r\nPING\r\n".encode())
            nursery.start_soon(self._answer, stream, answers)
            yield
            nursery.cancel_scope.cancel()

    async def _answer(self, stream: trio.SocketStream, answers: Sequence[bytes]) -> None:
        came = b""
        while data := await stream.receive_some(65536):
            *lines, came = (came + data).split(b"\r\n")
            for line in lines:
                if line.startswith(b"HMSG "):
                    reply = line.split(b" ")[3]
                    for each in answers:
                        await stream.send_all(b"PUB %b %d\r\n%b\r\n" % (reply, len(each), each))

    async def messages(self) -> list[Message]:
        """See `Server`."""
        return await self._in(STREAM)

    async def _in(self, stream: str) -> list[Message]:
        async def read(js: JetStreamContext) -> list[Message]:
            try:
                state = (await js.stream_info(stream)).state
            except NotFoundError:
                return []
            numbers = range(state.first_seq, state.last_seq + 1) if state.messages else ()
            found = await asyncio.gather(*(js.get_msg(stream, number) for number in numbers))
            return [
                Message(each.data or b"", cast("dict[str, str]", each.headers or {}))
                for each in found
            ]

        return await self.client(read)

    async def unacknowledged(self) -> int:
        """See `Server`."""

        async def ask(js: JetStreamContext) -> int:
            found = await js.consumers_info(STREAM)
            return sum(each.num_ack_pending or 0 for each in found)

        return await self.client(ask)

    async def limit(self) -> int:
        """See `Server`."""
        return MAX_PAYLOAD

    async def dead(self) -> list[tuple[Message, str]]:
        """See `Server`."""
        letters = await self._in(f"{STREAM}_dead")
        return [(letter, letter.headers["dead-reason"]) for letter in letters]


@asynccontextmanager
async def running(server: NatsServer) -> AsyncGenerator[NatsServer]:
    """Run the server during the block."""
    try:
        await server.start()
        yield server
    finally:
        with trio.CancelScope(shield=True):
            server.resume()
            await server.kill()


@asynccontextmanager
async def nats_server(directory: Path, **stream: object) -> AsyncGenerator[NatsServer]:
    """A server for a test, with the stream."""
    async with running(NatsServer(directory)) as server:
        await server.make_stream(STREAM, **stream)
        yield server
