"""A channel that hands on many messages at once.

Owns what aiormq has a task for each message for, and several turns of its loop.
Never knows what the messages are about.
"""

# pyright: reportUnknownMemberType=false
# aiormq has futures without types.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from aiormq.connection import Connection
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

FRAMES = 4096
"""Of AMQP, that wait to be sent or understood."""

Sent = tuple[bytes, Basic.Properties]
"""A message: what goes before its body is after it."""


class RoomyConnection(Connection):
    """With room for what is sent together: otherwise tasks take turns at every few frames."""

    FRAME_BUFFER_SIZE = FRAMES


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

    async def publish_all(
        self, messages: Sequence[Sent], exchange: str, routing_key: str
    ) -> list[asyncio.Future[object]]:
        """Publish messages, in order, each of them mandatory; returns what their confirms end."""
        loop = asyncio.get_running_loop()
        confirms: list[asyncio.Future[object]] = []
        frames: list[Basic.Publish | ContentHeader | ContentBody] = []
        for body, properties in messages:
            self.delivery_tag += 1
            confirms.append(loop.create_future())
            self.confirmations[self.delivery_tag] = confirms[-1]
            if properties.message_id:  # By that it is known which one is returned.
                self.message_id_delivery_tag[properties.message_id] = self.delivery_tag
            frames += [
                Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True),
                ContentHeader(body_size=len(body), properties=properties),
                *self._split_body(body),
            ]
        await self.write_queue.put(ChannelFrame.marshall(self.number, frames))
        return confirms

    def forget_all(self) -> None:
        """Nothing that was published is asked after any more."""
        self.message_id_delivery_tag.clear()


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
