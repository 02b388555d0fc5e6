"""A channel that hands on many messages at once, and loses none of what it is told of them.

Owns what aiormq has a task for each message for, and several turns of its loop.
Never knows what the messages are about.
"""

# pyright: reportUnknownMemberType=false
# aiormq has futures without types.

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast

import pamqp.frame
from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from aiormq.connection import Connection, FrameReceiver
from aiormq.exceptions import PublishError
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from .._brokers._client import in_words
from ._frames import Frames

FRAMES = 4096
"""Of AMQP, that wait to be sent or understood."""

Reader = Callable[[FrameReceiver], Awaitable[None]]
Sent = tuple[bytes, Basic.Properties]
"""A message: what goes before its body is after it."""


class UnsayableError(Exception):
    """AMQP has no frames for a message."""


class RoomyConnection(Connection):
    """With room for what is sent together: otherwise tasks take turns at every few frames."""

    FRAME_BUFFER_SIZE = FRAMES

    async def _Connection__reader(self, frame_receiver: FrameReceiver) -> None:  # noqa: N802
        # The name is what Python makes of aiormq's own, which is called after connecting.
        read: Reader = getattr(super(), "_Connection__reader")  # noqa: B009
        await read(Frames(frame_receiver.reader))


class BatchChannel(Channel):
    """See above. Made by `open_channel`."""

    hear: Callable[[DeliveredMessage], None] | None = None
    """Called with what a consumer is sent."""

    async def _on_deliver_frame(self, frame: Basic.Deliver) -> None:
        header = await self._get_frame()
        assert isinstance(header, ContentHeader)
        message = await self._read_content(frame, header)
        if self.hear is not None:
            self.hear(message)

    async def _on_return_frame(self, frame: Basic.Return) -> None:
        """A message has come back, and is confirmed all the same, after this.

        Which one it is cannot be said of one without an id, or of two with the same. All were for
        the same place, so that none that is not confirmed yet counts as sent.
        """
        header = await self._get_frame()
        assert isinstance(header, ContentHeader)
        message = await self._read_content(frame, header)
        confirms = cast("Iterable[asyncio.Future[object]]", self.confirmations.values())
        for confirm in confirms:
            if not confirm.done():
                confirm.set_exception(PublishError(message, frame))

    def framed(self, message: Sent, exchange: str, routing_key: str) -> bytes:
        """A message as it is sent, mandatory.

        Raises:
            UnsayableError: AMQP does not have what is in its headers, or not so much of it.
        """
        body, properties = message
        most = self.connection.connection_tune.frame_max
        try:
            header = pamqp.frame.marshal(
                ContentHeader(body_size=len(body), properties=properties), self.number
            )
        except Exception as error:  # Of headers there are many kinds.
            raise UnsayableError(f"its headers cannot be sent: {in_words(error)}") from None
        if 0 < most < len(header):
            raise UnsayableError(f"its headers are too large: {len(header)} bytes, of {most}")
        publish = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
        bodies = [pamqp.frame.marshal(each, self.number) for each in self._split_body(body)]
        return b"".join([pamqp.frame.marshal(publish, self.number), header, *bodies])

    async def publish_all(self, framed: Sequence[bytes]) -> list[asyncio.Future[object]]:
        """Publish messages, in order; returns what their confirms end."""
        loop = asyncio.get_running_loop()
        confirms: list[asyncio.Future[object]] = []
        for _ in framed:
            self.delivery_tag += 1
            confirms.append(loop.create_future())
            self.confirmations[self.delivery_tag] = confirms[-1]
        await self.write_queue.put(ChannelFrame(b"".join(framed), should_close=False))
        return confirms


async def open_channel(connection: Connection, *, confirms: bool) -> BatchChannel:
    """Open one.

    Args:
        connection: on which.
        confirms: whether publishers want them.
    """
    number = 1 + max(connection.channels, default=0)
    channel = BatchChannel(connection, number, publisher_confirms=confirms, frame_buffer=FRAMES)
    connection.channels[number] = channel
    await channel.open()
    return channel
