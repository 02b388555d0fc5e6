"""Frames of AMQP as they come: one that cannot be decoded costs no message but its own.

Owns what stands in the place of such a frame; by itself aiormq ends the connection for it.
Never knows channels, nor what a message is about.
"""

# pyright: reportUnknownMemberType=false
# aiormq has futures without types.

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

import pamqp.frame
from aiormq.abc import DeliveredMessage
from aiormq.connection import FrameReceiver, ReceivedFrame
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp.commands import Basic
from pamqp.constants import FRAME_END, FRAME_HEADER, FRAME_METHOD
from pamqp.header import ContentHeader

from .._brokers._client import in_words

_HEAD = struct.Struct(">BHI")
"""A frame's head: its kind, its channel and how many bytes follow."""
_DELIVER = struct.pack(">HH", 60, 60)
_SIZES = struct.Struct(">HHQ")
"""A content header's beginning: class, weight, and the bytes of the body."""


class UnreadableHeader(ContentHeader):
    """A content header that cannot be decoded as a whole, with those properties that can be."""

    def __init__(self, payload: bytes, fault: str) -> None:
        _, _, body_size = _SIZES.unpack_from(payload)
        super().__init__(body_size=body_size)
        self.fault = fault
        self.raw = payload[_SIZES.size :]
        with suppress(Exception):  # Those before the one that is wrong.
            self.unmarshal(payload)


class UnreadableDeliver(Basic.Deliver):
    """A delivery whose exchange or routing key is no text."""

    def __init__(self, payload: bytes, fault: str) -> None:
        consumer_tag, rest = _text(payload[4:])
        (number,) = struct.unpack_from(">Q", rest)
        exchange, rest_of_it = _text(rest[9:])
        super().__init__(consumer_tag, number, bool(rest[8] & 1), exchange, _text(rest_of_it)[0])
        self.fault = fault


def _text(data: bytes) -> tuple[str, bytes]:
    """A short string, and what follows it."""
    length = data[0]
    return data[1 : 1 + length].decode(errors="backslashreplace"), data[1 + length :]


def fault_of(delivered: DeliveredMessage) -> str | None:
    """Why a message cannot be read; None where it can be."""
    for part in (delivered.delivery, delivered.header):
        if isinstance(part, UnreadableDeliver | UnreadableHeader):
            return part.fault
    return None


class Frames(FrameReceiver):
    """Reads frames in the place of aiormq's own reader."""

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
            return len(head) + len(rest), channel, _in_its_place(kind, rest, error)


def _in_its_place(kind: int, rest: bytes, error: Exception) -> ContentHeader | Basic.Deliver:
    """A frame that stands for one that cannot be decoded.

    Raises:
        InvalidFrameError: it is not of one message.
    """
    payload, fault = rest[:-1], f"its properties cannot be decoded: {in_words(error)}"
    if rest[-1] == FRAME_END:
        if kind == FRAME_HEADER and len(payload) >= _SIZES.size:
            return UnreadableHeader(payload, fault)
        if kind == FRAME_METHOD and payload.startswith(_DELIVER):
            return UnreadableDeliver(payload, "its exchange, or its routing key, is not UTF-8")
    raise InvalidFrameError(in_words(error)) from error
