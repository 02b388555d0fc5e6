"""The body of a request, received from the client no faster than it is read.

Owns how many bytes of it wait in memory, and the limit of its length.
Never knows which code reads it, nor how long a client may take to send it.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, Self

import trio

from ._asgi import HttpScope, Receive, ReceiveMessage

BUFFER_LIMIT = 128 * 1024
"""Bytes that wait to be read, at which nothing more is received from the client."""


class Body:
    """A body with back-pressure; Quart's receives everything, whether or not a handler reads it.

    `await body` returns the whole body, within its limit. `async for` gives it in pieces, and lets
    the client send no faster than they are read. The class has the methods that Quart calls on a
    body, and does not inherit from Quart's class, which differs from version to version.

    Args:
        announced: the length in bytes that the client has announced; None where it has not.
        limit: bytes that the body may have; None for any number.
    """

    def __init__(self, announced: int | None, limit: int | None) -> None:
        self._announced = announced or 0
        self._received = 0
        self._limit = math.inf if limit is None else limit
        self._buffer = bytearray()
        self._is_complete = False
        self._is_read = False
        self._is_discarded = False
        self._is_too_large = False
        self._buffer_limit = float(BUFFER_LIMIT)
        self._has_data = trio.Event()
        self._has_room = trio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether the whole body was received."""
        return self._is_complete

    @property
    def is_empty(self) -> bool:
        """Whether the whole body was received, and there is nothing in it."""
        return self._is_complete and not self._received

    def discard(self) -> None:
        """Drop the buffer, and everything that is still received."""
        self._is_discarded = True
        self.clear()

    def clear(self) -> None:
        """Drop the buffer."""
        self._buffer.clear()
        self._has_room.set()

    async def wait_for_room(self) -> None:
        """Wait until more is to be received from the client."""
        while len(self._buffer) >= self._buffer_limit:
            self._has_room = trio.Event()
            await self._has_room.wait()

    def append(self, data: bytes) -> None:
        """Add a part that was received."""
        if self._is_discarded or not data:
            return
        self._received += len(data)
        self._buffer += data
        if self._is_read:
            self._check_length()
        self._has_data.set()

    def set_complete(self) -> None:
        """Note that nothing more comes."""
        self._is_complete = True
        self._has_data.set()

    def set_result(self, data: bytes) -> None:
        """Set the whole body at once, as Quart's `test_request_context` does."""
        self.append(data)
        self.set_complete()

    def __await__(self) -> Generator[Any, None, bytes]:
        """Wait for the whole body."""
        self._buffer_limit = math.inf
        self._begin_reading()
        while not self._is_complete:
            yield from self._wait_for_data().__await__()
        self._refuse_if_too_large()
        return bytes(self._buffer)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Wait for data; returns everything in the buffer."""
        self._begin_reading()
        while not self._buffer and not self._is_complete:
            await self._wait_for_data()
        self._refuse_if_too_large()
        if not self._buffer:
            raise StopAsyncIteration
        data = bytes(self._buffer)
        self.clear()
        return data

    async def _wait_for_data(self) -> None:
        self._has_data = trio.Event()
        await self._has_data.wait()

    def _begin_reading(self) -> None:
        if not self._is_read:
            self._is_read = True
            self._has_room.set()
            self._check_length()

    def _check_length(self) -> None:
        # Not before the handler reads: a handler that ignores the body need not refuse its size.
        if max(self._announced, self._received) > self._limit:
            self._is_too_large = True
            self.discard()
            self.set_complete()

    def _refuse_if_too_large(self) -> None:
        if self._is_too_large:
            from werkzeug.exceptions import RequestEntityTooLarge  # noqa: PLC0415 - see `_late`

            raise RequestEntityTooLarge


async def receive_body(body: Body, receive: Receive) -> None:
    """Receive the body while there is room for it, until the client has disconnected."""
    while True:
        await body.wait_for_room()
        message = await receive()
        if message["type"] == "http.request":
            body.append(message["body"])
            if not message["more_body"]:
                body.set_complete()
        elif message["type"] == "http.disconnect":
            return


class PendingBody:
    """The `receive` of a request, which knows whether all of the body has come.

    Args:
        scope: the server's.
        receive: the server's.
    """

    def __init__(self, scope: HttpScope, receive: Receive) -> None:
        self._receive = receive
        headers = dict(scope["headers"])  # Their names are in lower case.
        length = headers.get(b"content-length", b"0")
        is_chunked = b"transfer-encoding" in headers
        self._left = math.inf if is_chunked or not length.isdigit() else int(length)

    @property
    def is_pending(self) -> bool:
        """Whether there is more of the body to come."""
        return self._left > 0

    async def receive(self) -> ReceiveMessage:
        """Receive a message, and note how much of the body it brings.

        ASGI lets a server leave out a body that is empty, and that there is no more of it.
        """
        message = await self._receive()
        if message["type"] == "http.request":
            message.setdefault("body", b"")
            message.setdefault("more_body", False)
            self._left = self._left - len(message["body"]) if message["more_body"] else 0
        return message
