"""The one door to aiormq's inside: a channel for many messages at once, and tolerant frames.

Owns every override of aiormq, and the list of the names that are overridden or read. aiormq has a
task for each message, and several turns of its loop. For a frame that it cannot decode it ends the
connection; here such a frame costs no message but its own.
Never knows what a message is about.
"""

# pyright: reportUnknownMemberType=false
# aiormq has futures without types.

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

import attrs
import pamqp.frame
from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from aiormq.connection import Connection as AiormqConnection
from aiormq.connection import (
    FrameReceiver,
    ReceivedFrame,
    TCPTransportFactory,
    TLSTransportFactory,
    TransportFactory,
)
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError, PublishError
from pamqp.commands import Basic
from pamqp.constants import FRAME_END, FRAME_HEADER, FRAME_METHOD
from pamqp.header import ContentHeader
from yarl import URL

from .._error_text import describe

INSIDE = {
    "aiormq.channel:Channel.__init__": (
        "(self, connector, number, publisher_confirms=..., frame_buffer=..., on_return_raises=...)"
    ),
    "aiormq.channel:Channel._get_frame": "async (self)",
    "aiormq.channel:Channel._on_deliver_frame": "async (self, frame)",
    "aiormq.channel:Channel._on_return_frame": "async (self, frame)",
    "aiormq.channel:Channel._read_content": "async (self, frame, header)",
    "aiormq.channel:Channel._split_body": "(self, body)",
    "aiormq.channel:Channel.confirmations": "attribute",
    "aiormq.channel:Channel.delivery_tag": "attribute",
    "aiormq.channel:Channel.write_queue": "attribute",
    "aiormq.connection:Connection._Connection__reader": "async (self, frame_receiver)",
    "aiormq.connection:Connection.FRAME_BUFFER_SIZE": "attribute",
    "aiormq.connection:Connection.channels": "attribute",
    "aiormq.connection:Connection.connection_tune": "attribute",
    "aiormq.connection:FrameReceiver.__init__": "(self, reader)",
    "aiormq.connection:FrameReceiver.get_frame": "async (self)",
    "aiormq.connection:FrameReceiver.reader": "attribute",
}
"""The undocumented names that are overridden or used here, each with the signature that is counted
on."""

LOGGERS = ("aiormq.channel", "aiormq.connection", "aiormq.connection.marshall")
"""The loggers of aiormq that report errors which aiormq raises as well."""

FRAMES = 4096
"""Frames of AMQP that wait to be sent or handled, at most."""

Read = Callable[[FrameReceiver], Awaitable[None]]
AmqpMessage = tuple[bytes, Basic.Properties]
"""The body of a message, and the properties that are sent before it."""

_HEAD = struct.Struct(">BHI")
"""The head of a frame: its kind, its channel, and the number of bytes that follow."""
_DELIVER = struct.pack(">HH", 60, 60)
_SIZES = struct.Struct(">HHQ")
"""The beginning of a content header: class, weight, and the bytes of the body."""


class UnencodableError(Exception):
    """AMQP has no frames for a message."""


class BatchConnection(AiormqConnection):
    """A connection with buffers for a batch of messages, and with tolerant frames.

    With aiormq's own buffers its tasks take turns every few frames.
    """

    FRAME_BUFFER_SIZE = FRAMES

    async def _Connection__reader(self, frame_receiver: FrameReceiver) -> None:  # noqa: N802
        # Python makes this name from aiormq's own, which is called after connecting.
        read: Read = getattr(super(), "_Connection__reader")  # noqa: B009
        await read(TolerantFrames(frame_receiver.reader))


class BatchChannel(Channel):
    """A channel that publishes a batch at once, and passes messages on without a task for each.

    Made by `open_channel`.
    """

    on_message: Callable[[DeliveredMessage], None] | None = None
    """Called with each message that is sent to a consumer."""

    async def _on_deliver_frame(self, frame: Basic.Deliver) -> None:
        header = await self._get_frame()
        assert isinstance(header, ContentHeader)
        message = await self._read_content(frame, header)
        if self.on_message is not None:
            self.on_message(message)

    async def _on_return_frame(self, frame: Basic.Return) -> None:
        """Fail every unconfirmed message: RabbitMQ returns one, and confirms it nevertheless.

        A message without an id, or with the id of another, cannot be told from the others. All
        were for the same queue or exchange, so none that is not confirmed yet counts as sent.
        """
        header = await self._get_frame()
        assert isinstance(header, ContentHeader)
        message = await self._read_content(frame, header)
        confirms = cast("Iterable[asyncio.Future[object]]", self.confirmations.values())
        for confirm in confirms:
            if not confirm.done():
                confirm.set_exception(PublishError(message, frame))

    def encode(self, message: AmqpMessage, exchange: str, routing_key: str) -> bytes:
        """The frames of a message that is published with `mandatory`.

        Raises:
            UnencodableError: AMQP cannot express its headers, or they are too large.
        """
        body, properties = message
        most = self.connection.connection_tune.frame_max
        try:
            header = pamqp.frame.marshal(
                ContentHeader(body_size=len(body), properties=properties), self.number
            )
        except Exception as error:  # pamqp raises the errors of the values' own encoders as well.
            raise UnencodableError(f"its headers cannot be sent: {describe(error)}") from None
        if 0 < most < len(header):
            raise UnencodableError(f"its headers are too large: {len(header)} bytes, of {most}")
        publish = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
        bodies = [pamqp.frame.marshal(each, self.number) for each in self._split_body(body)]
        return b"".join([pamqp.frame.marshal(publish, self.number), header, *bodies])

    async def publish_all(self, encoded: Sequence[bytes]) -> list[asyncio.Future[object]]:
        """Publish encoded messages in order; returns the future of each confirm."""
        loop = asyncio.get_running_loop()
        confirms: list[asyncio.Future[object]] = []
        for _ in encoded:
            self.delivery_tag += 1
            confirms.append(loop.create_future())
            self.confirmations[self.delivery_tag] = confirms[-1]
        await self.write_queue.put(ChannelFrame(b"".join(encoded), should_close=False))
        return confirms


async def open_channel(connection: AiormqConnection, *, confirms: bool) -> BatchChannel:
    """Open a channel.

    Args:
        connection: the connection.
        confirms: whether RabbitMQ confirms messages that are published on the channel.
    """
    number = 1 + max(connection.channels, default=0)
    channel = BatchChannel(connection, number, publisher_confirms=confirms, frame_buffer=FRAMES)
    connection.channels[number] = channel
    await channel.open()
    return channel


@attrs.define
class Transport(TransportFactory):
    """A factory that remembers its socket, to abort it: a broker that hangs closes nothing."""

    is_tls: bool
    _writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See `TransportFactory`."""
        factory = TLSTransportFactory() if self.is_tls else TCPTransportFactory()
        reader, self._writer = await factory.create(url, **kwargs)
        return reader, self._writer

    def abort(self) -> None:
        """Close the socket at once."""
        if self._writer is not None:
            self._writer.transport.abort()


class UnreadableHeader(ContentHeader):
    """A content header that cannot be decoded as a whole, with the properties that can be."""

    def __init__(self, payload: bytes, fault: str) -> None:
        _, _, body_size = _SIZES.unpack_from(payload)
        super().__init__(body_size=body_size)
        self.fault = fault
        self.raw = payload[_SIZES.size :]
        with suppress(Exception):  # The properties before the faulty one are decoded.
            self.unmarshal(payload)


class UnreadableDeliver(Basic.Deliver):
    """A delivery whose exchange or routing key is not UTF-8."""

    def __init__(self, payload: bytes, fault: str) -> None:
        consumer_tag, rest = _short_string(payload[4:])
        (number,) = struct.unpack_from(">Q", rest)
        exchange, after_exchange = _short_string(rest[9:])
        routing_key, _ = _short_string(after_exchange)
        super().__init__(consumer_tag, number, bool(rest[8] & 1), exchange, routing_key)
        self.fault = fault


def _short_string(data: bytes) -> tuple[str, bytes]:
    """A short string, and the bytes after it."""
    length = data[0]
    return data[1 : 1 + length].decode(errors="backslashreplace"), data[1 + length :]


def fault_of(delivered: DeliveredMessage) -> str | None:
    """Why a message cannot be read; None if it can be."""
    for part in (delivered.delivery, delivered.header):
        if isinstance(part, UnreadableDeliver | UnreadableHeader):
            return part.fault
    return None


class TolerantFrames(FrameReceiver):
    """A reader of frames that puts a stand-in where a frame cannot be decoded."""

    async def get_frame(self) -> ReceivedFrame:
        """See `FrameReceiver`."""
        if self.reader.at_eof():
            raise StopAsyncIteration
        try:
            head = await self.reader.readexactly(_HEAD.size)
            kind, channel, size = _HEAD.unpack(head)
            rest = await self.reader.readexactly(size + 1)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise AMQPConnectionError("the connection is lost") from error
        try:
            return pamqp.frame.unmarshal(head + rest)
        except Exception as error:
            return len(head) + len(rest), channel, _stand_in(kind, rest, error)


def _stand_in(kind: int, rest: bytes, error: Exception) -> ContentHeader | Basic.Deliver:
    """A frame in place of a frame that cannot be decoded.

    Raises:
        InvalidFrameError: the frame belongs to no message.
    """
    payload, fault = rest[:-1], f"its properties cannot be decoded: {describe(error)}"
    if rest[-1] == FRAME_END:
        if kind == FRAME_HEADER and len(payload) >= _SIZES.size:
            return UnreadableHeader(payload, fault)
        if kind == FRAME_METHOD and payload.startswith(_DELIVER):
            return UnreadableDeliver(payload, "its exchange, or its routing key, is not UTF-8")
    raise InvalidFrameError(describe(error)) from error
