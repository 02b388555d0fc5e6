"""The body of a request, which is taken from its client as it is read.

Owns how much of it waits in memory, and the limit of its length.
Never knows what reads it, nor how long a client may take for it.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, Self, cast

import trio
from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
)
from quart.wrappers import Request as QuartRequest
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest
from werkzeug.exceptions import RequestEntityTooLarge

ENOUGH = 128 * 1024
"""Bytes that wait to be read, at which nothing more is taken from the client."""


class Body:
    """As Quart's, which takes everything that comes, whether or not anybody reads it.

    Awaited, it is all in memory at the end, within its limit; iterated over, the client can send
    no faster than it is read. It has what Quart asks of a body and nothing of Quart's own class,
    which differs from version to version.

    Args:
        announced: the bytes that the client has announced; None where it has not.
        limit: the bytes that it may have; None for any number.
    """

    def __init__(self, announced: int | None, limit: int | None) -> None:
        self._bytes = announced or 0
        self._arrived = 0
        self._limit = math.inf if limit is None else limit
        self._waiting = bytearray()
        self._is_complete = False
        self._is_read = False
        self._is_discarded = False
        self._is_too_large = False
        self._enough = float(ENOUGH)
        self._news = trio.Event()
        self._room = trio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether all of it has come."""
        return self._is_complete

    def discard(self) -> None:
        """Nobody reads what is left."""
        self._is_discarded = True
        self.clear()

    def clear(self) -> None:
        """Forget what has come."""
        self._waiting.clear()
        self._room.set()

    async def wanted(self) -> None:
        """Wait until more is to be taken from the client."""
        while len(self._waiting) >= self._enough:
            self._room = trio.Event()
            await self._room.wait()

    def append(self, data: bytes) -> None:
        """Take what has come."""
        if self._is_discarded or not data:
            return
        self._arrived += len(data)
        self._waiting += data
        if self._is_read:
            self._check()
        self._news.set()

    def set_complete(self) -> None:
        """Nothing more comes."""
        self._is_complete = True
        self._news.set()

    def set_result(self, data: bytes) -> None:
        """Take all of it at once, as Quart's `test_request_context` has it."""
        self.append(data)
        self.set_complete()

    def __await__(self) -> Generator[Any, None, bytes]:
        """Wait for all of it."""
        self._enough = math.inf
        self._begin()
        while not self._is_complete:
            yield from self._more().__await__()
        self._refuse_if_too_large()
        return bytes(self._waiting)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Wait for something, and have all that has come."""
        self._begin()
        while not self._waiting and not self._is_complete:
            await self._more()
        self._refuse_if_too_large()
        if not self._waiting:
            raise StopAsyncIteration
        data = bytes(self._waiting)
        self.clear()
        return data

    async def _more(self) -> None:
        self._news = trio.Event()
        await self._news.wait()

    def _begin(self) -> None:
        if not self._is_read:
            self._is_read = True
            self._room.set()
            self._check()

    def _check(self) -> None:
        # Not before somebody reads it: who ignores it need not answer for its size.
        if max(self._bytes, self._arrived) > self._limit:
            self._is_too_large = True
            self.discard()
            self.set_complete()

    def _refuse_if_too_large(self) -> None:
        if self._is_too_large:
            raise RequestEntityTooLarge


async def take_in(body: Body, receive: ASGIReceiveCallable) -> None:
    """Take what a client sends, as long as it is wanted, until the client has left."""
    while True:
        await body.wanted()
        message = await receive()
        if message["type"] == "http.request":
            body.append(message["body"])
            if not message["more_body"]:
                body.set_complete()
        elif message["type"] == "http.disconnect":
            return


class Request(TrioRequest):
    """Quart's, with that body."""

    body_class = Body  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    body: Body  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]


class HttpConnection(TrioASGIHTTPConnection):
    """Quart's, which takes no more from the client than is read."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer, and listen meanwhile, with one task for it and not two."""
        request = self._create_request_from_scope(send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.handle_request, nursery, request, send)
            await self.handle_messages(nursery, request, receive)

    async def handle_messages(  # type: ignore[override]  # As in quart-trio.
        self, nursery: trio.Nursery, request: QuartRequest, receive: ASGIReceiveCallable
    ) -> None:
        """Hand over what comes; to leave ends the request."""
        await take_in(cast("Body", request.body), receive)
        nursery.cancel_scope.cancel()

    async def handle_request(  # type: ignore[override]  # As in quart-trio.
        self, nursery: trio.Nursery, request: QuartRequest, send: ASGISendCallable
    ) -> None:
        """Answer; then let the rest of the body go by, for a server waits until it is taken."""
        body = cast("Body", request.body)

        async def send_and_let_go(message: ASGISendEvent) -> None:
            """Send; nothing is read any more once the last of it is sent."""
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                body.discard()
            await send(message)

        await super().handle_request(nursery, request, send_and_let_go)
