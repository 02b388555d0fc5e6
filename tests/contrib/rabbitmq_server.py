"""A rabbitmq-server of the tests' own, on free ports, in a directory of its own.

A start takes seconds, so tests share one server, and each has a virtual host.
"""

# pyright: reportUnknownMemberType=false
# aiormq has futures without types.

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import struct
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

import aiormq
import trio
from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from trivet_contrib._brokers._client import Message

from .programs import free_port, needs
from .suite import Certificate, Server, Table

NEEDED = ("rabbitmq-server", "erl_call")
needs_rabbitmq = needs("rabbitmq-server")
QUEUE, USER, OWN_USER, OWN_PASSWORD = "orders", "clerk", "guest", "guest"
STARTING = 60.0
"""Seconds for a start."""
BY_DEFAULT = 128 << 20
"""Bytes of a message, at most."""
PREFIXES = ("cloudEvents:", "cloudEvents_")

T = TypeVar("T")


class Node:
    """One process of RabbitMQ, with its directory."""

    def __init__(self, directory: Path) -> None:
        self.port, self._distribution, self._mapper = (free_port() for _ in range(3))
        self._directory = directory
        self._cookie = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        # Otherwise it would start a port mapper that outlives it.
        command = ["epmd", "-address", "127.0.0.1", "-port", str(self._mapper)]
        self._ports = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def _environment(self) -> dict[str, str]:
        """Settings that share nothing with the system's own server."""
        own = self._directory
        return {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(own),
            "ERL_EPMD_PORT": str(self._mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"trivet-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONF_ENV_FILE": str(own / "none.env"),
            "RABBITMQ_CONFIG_FILE": str(own / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_PID_FILE": str(own / "pid"),
        }

    def start(self) -> None:
        """Start the node, and wait until it answers."""
        (self._directory / "plugins").write_text("[].\n")
        (self._directory / ".erlang.cookie").write_text(self._cookie)
        (self._directory / ".erlang.cookie").chmod(0o400)
        with (self._directory / "out").open("wb") as out:
            self._process = subprocess.Popen(
                [_program()],
                env=self._environment(),
                cwd=self._directory,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        until = monotonic() + STARTING
        while b"completed with" not in (said := (self._directory / "out").read_bytes()):
            assert self._process.poll() is None, said.decode()
            assert monotonic() < until, said.decode()
            sleep(0.05)

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its helpers."""
        if self._process is not None and self.is_running:
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kill the node at once."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def end(self) -> None:
        """Kill the node and its port mapper."""
        self.kill()
        self._ports.kill()
        self._ports.wait()

    def ask(self, expression: str) -> str:
        """Evaluate Erlang in the node."""
        command = ["erl_call", "-address", f"127.0.0.1:{self._distribution}", "-c", self._cookie]
        until = monotonic() + STARTING
        while True:
            # Each call has a node name of its own: the last node may not be gone yet.
            done = subprocess.run(
                [*command, "-r", "-e"],
                input=f"{expression}.\n".encode(),
                capture_output=True,
                check=False,
            )
            # A busy node may refuse the connection; then nothing was evaluated.
            if b"connect" not in done.stderr or monotonic() > until:
                break
            sleep(0.1)
        assert done.returncode == 0, done.stderr.decode()
        said = done.stdout.decode().strip()
        assert said.startswith("{ok, "), said
        return said.removeprefix("{ok, ").removesuffix("}")


def _program() -> str:
    """The script itself: the program on the PATH may switch to a user without rights here."""
    found = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return str(found) if found.exists() else "rabbitmq-server"


class RabbitmqServer(Server):
    """A virtual host of a node."""

    def __init__(self, node: Node, vhost: str) -> None:
        self.port = node.port
        self.node = node
        self.vhost = vhost

    def url(self, user: str = OWN_USER, password: str = OWN_PASSWORD, port: int = 0) -> str:
        """The URL of the virtual host."""
        return f"amqp://{user}:{password}@127.0.0.1:{port or self.port}/{self.vhost}"

    def settings(self, **others: object) -> Table:
        """See `Server`."""
        return {"url": self.url(), "queue": QUEUE, "create": True, **others}

    def through(self, port: int) -> Table:
        """See `Server`."""
        return self.settings(url=self.url(port=port))

    def with_password(self, password: str) -> Table:
        """See `Server`."""
        return self.settings(url=self.url(USER, password))

    async def ask(self, expression: str) -> str:
        """Evaluate Erlang in the node."""
        return await trio.to_thread.run_sync(self.node.ask, expression)

    async def listen_with_tls(self, certificate: Certificate) -> int:
        """Listen at one more port; returns the port."""
        port = free_port()
        files = f'{{certfile, "{certificate.certificate}"}}, {{keyfile, "{certificate.key}"}}'
        await self.ask(
            f'rabbit_networking:start_ssl_listener({{"127.0.0.1", {port}}}, [{files}], 1)'
        )
        return port

    async def make(self) -> None:
        """Make the virtual host."""
        await self.ask(f"rabbit_vhost:add({_binary(self.vhost)}, {_binary('tests')})")
        await self.permit(OWN_USER)

    async def permit(self, user: str, configure: str = ".*", write: str = ".*") -> None:
        """Give a user permissions in the virtual host."""
        given = ", ".join(map(_binary, (user, self.vhost, configure, write, ".*", "tests")))
        await self.ask(f"rabbit_auth_backend_internal:set_permissions({given})")

    async def remove(self) -> None:
        """Delete the virtual host and the user."""
        await self._limit(BY_DEFAULT)
        await self.ask(f"rabbit_vhost:delete({_binary(self.vhost)}, {_binary('tests')})")
        await self._turn_out()

    async def _turn_out(self) -> None:
        user = _binary(USER)
        await self.ask(
            f"catch rabbit_auth_backend_internal:delete_user({user}, {_binary('tests')}),"
            " [catch rabbit_networking:close_connection(P, <<>>) ||"  # Some may be ending.
            f" [{{pid, P}}, {{user, U}}] <- rabbit_networking:connection_info_all([pid, user]),"
            f" U =:= {user}]"
        )

    async def allow(self, password: str | None) -> None:
        """See `Server`."""
        await self._turn_out()
        if password is not None:
            given = ", ".join(map(_binary, (USER, password, "tests")))
            await self.ask(f"rabbit_auth_backend_internal:add_user({given})")
            await self.permit(USER)

    async def client(self, ask: Callable[[Channel], Awaitable[T]]) -> T:
        """Send a request with a bare client; messages that it leaves unacknowledged go back."""

        async def asked() -> T:
            async with aiormq.connect(self.url()) as connection:
                channel = await connection.channel()
                assert isinstance(channel, Channel)
                return await ask(channel)

        return await trio.to_thread.run_sync(lambda: asyncio.run(asked()))

    async def declare(self, name: str = QUEUE, **arguments: str | int) -> None:
        """Make a queue, by default a quorum queue."""
        given: FieldTable = {"x-queue-type": "quorum"}
        given.update({f"x-{key.replace('_', '-')}": each for key, each in arguments.items()})

        async def declare(channel: Channel) -> None:
            await channel.queue_declare(name, durable=True, arguments=given)

        await self.client(declare)
        # A kill within half a second would silently cost the queue.
        await self.ask("[dets:sync(Table) || Table <- dets:all()]")

    async def start(self) -> None:
        """See `Server`."""
        await trio.to_thread.run_sync(self.node.start)

    async def limit_memory(self, share: str) -> None:
        """Block publishers while RabbitMQ uses more than this share of the memory."""
        await self.ask(f"vm_memory_monitor:set_vm_memory_high_watermark({share})")

    async def arguments(self, name: str = QUEUE) -> str:
        """The arguments of a queue, in Erlang's form."""
        queue = f"{{resource, {_binary(self.vhost)}, queue, {_binary(name)}}}"
        said = 'lists:flatten(io_lib:format("~p", [amqqueue:get_arguments(Q)]))'
        return await self.ask(f"{{ok, Q}} = rabbit_amqqueue:lookup({queue}), {said}")

    async def kill(self) -> None:
        """See `Server`."""
        await trio.to_thread.run_sync(self.node.kill)

    def pause(self) -> None:
        """See `Server`."""
        self.node.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """See `Server`."""
        self.node.signal(signal.SIGCONT)

    async def send(self, messages: Sequence[Message]) -> None:
        """See `Server`."""

        async def send(channel: Channel) -> None:
            # Frame by frame: the client adds an id to a message without one.
            confirmed: list[asyncio.Future[object]] = []
            for each in messages:
                channel.delivery_tag += 1
                confirmed.append(asyncio.get_running_loop().create_future())
                channel.confirmations[channel.delivery_tag] = confirmed[-1]
                header = ContentHeader(body_size=len(each.body), properties=_properties(each))
                frames: list[Basic.Publish | ContentHeader | ContentBody]
                frames = [Basic.Publish(routing_key=QUEUE), header, ContentBody(each.body)]
                await channel.write_queue.put(ChannelFrame.marshall(channel.number, frames))
            await asyncio.gather(*confirmed)

        await self.client(send)

    async def send_raw(
        self, properties: bytes, body: bytes, exchange: str = "", routing_key: bytes = b""
    ) -> None:
        """Publish a message whose properties, flags first, are these bytes."""
        to = routing_key or QUEUE.encode()
        publish = struct.pack(">HHHB", 60, 40, 0, len(exchange)) + exchange.encode()
        publish += bytes([len(to)]) + to + b"\0"
        header = struct.pack(">HHQ", 60, 0, len(body)) + properties

        async def send(channel: Channel) -> None:
            channel.delivery_tag += 1
            confirm = asyncio.get_running_loop().create_future()
            channel.confirmations[channel.delivery_tag] = confirm
            frames = [
                struct.pack(">BHI", kind, channel.number, len(payload)) + payload + b"\xce"
                for kind, payload in ((1, publish), (2, header), (3, body))
            ]
            await channel.write_queue.put(ChannelFrame(b"".join(frames), should_close=False))
            await confirm

        await self.client(send)

    async def messages(self) -> list[Message]:
        """See `Server`."""
        return [_message(each) for each in await self.raw()]

    async def raw(self, queue: str = QUEUE) -> list[DeliveredMessage]:
        """The messages of a queue, in the client's form."""

        async def read(channel: Channel) -> list[DeliveredMessage]:
            found: list[DeliveredMessage] = []
            try:
                while isinstance((got := await channel.basic_get(queue)).delivery, Basic.GetOk):
                    found.append(got)
            except ChannelNotFoundEntity:
                return []
            return found

        return await self.client(read)

    async def unacknowledged(self) -> int:
        """See `Server`."""
        queue = f"{{resource, {_binary(self.vhost)}, queue, {_binary(QUEUE)}}}"
        said = await self.ask(
            f"{{ok, Q}} = rabbit_amqqueue:lookup({queue}), {{ok, N, _}} = ra:consistent_query("
            "amqqueue:get_pid(Q), fun rabbit_fifo:query_messages_checked_out/1), N"
        )
        return int(said)

    async def limit(self) -> int:
        """See `Server`. The limit is for the whole node, until this virtual host is deleted."""
        await self._limit(1 << 20)
        return 1 << 20

    async def _limit(self, size: int) -> None:
        await self.ask(f"application:set_env(rabbit, max_message_size, {size})")

    async def dead(self) -> list[tuple[Message, str]]:
        """See `Server`."""
        letters = [_message(each) for each in await self.raw(f"{QUEUE}_dead")]
        return [(letter, letter.headers.get("dead-reason", "")) for letter in letters]


def _binary(text: str) -> str:
    return f'<<"{text}">>'


def _properties(message: Message) -> Basic.Properties:
    headers: FieldTable = {
        name.replace("ce-", PREFIXES[0]): value
        for name, value in message.headers.items()
        if name != "content-type"
    }
    return Basic.Properties(
        content_type=message.headers.get("content-type"),
        headers=headers,
        delivery_mode=2,
        message_id=message.id or None,
    )


def _message(delivered: DeliveredMessage) -> Message:
    given = delivered.header.properties
    headers = {name: str(value) for name, value in (given.headers or {}).items()}
    for prefix in PREFIXES:
        headers = {name.replace(prefix, "ce-"): value for name, value in headers.items()}
    if given.content_type:
        headers["content-type"] = given.content_type
    return Message(delivered.body, headers)


@asynccontextmanager
async def rabbitmq_server(node: Node) -> AsyncGenerator[RabbitmqServer]:
    """A virtual host for a test, with the queue."""
    if not node.is_running:
        await trio.to_thread.run_sync(node.start)
    server = RabbitmqServer(node, f"v{secrets.token_hex(4)}")
    await server.make()
    await server.declare()
    try:
        yield server
    finally:
        with trio.CancelScope(shield=True):
            server.resume()
            if node.is_running:
                await server.remove()
