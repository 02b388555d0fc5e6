"""Routes that last, behind a server: the subject of the tests of connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import trio
from quart import Response, request, websocket

from trivet import (
    BackgroundPlugin,
    Event,
    EventPlugin,
    EventStream,
    Runtime,
    route,
    websocket_route,
)
from trivet.testing import open_plugins, serving

CLOSING = b"Connection: close"


class Placed(Event):
    order_id: str


class Ledger(EventPlugin[Placed]):
    async def initialize(self) -> None:
        self.placed: list[str] = []

    async def handle_event(self, event: Placed) -> None:
        self.placed.append(event.order_id)


class Endless:
    """An iterable without an end, and without a wait where `pause` is None."""

    def __init__(self, desk: Desk, piece: bytes, pause: float | None) -> None:
        self._desk = desk
        self._piece = piece
        self._pause = pause

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._desk.open += 1
        return self

    async def __anext__(self) -> bytes:
        if self._pause is not None:
            await trio.sleep(self._pause)
        return self._piece

    async def aclose(self) -> None:
        """End, like a generator."""
        self._desk.open -= 1


class Desk(BackgroundPlugin):
    """Routes that last, and how many of them are open."""

    async def initialize(self) -> None:
        self.open = 0
        self.go_on = trio.Event()

    @route("/")
    async def home(self) -> str:
        return "done"

    @route("/slow")
    async def slow(self) -> str:
        self.open += 1
        try:
            await self.go_on.wait()
        finally:
            self.open -= 1
        return "done"

    @route("/ignore", methods=["POST"])
    async def ignore(self) -> str:
        return "done"

    @route("/rows")
    async def rows(self) -> Response:
        return Response(Endless(self, b"a row of a large table\n" * 40, None))

    @route("/lines")
    async def lines(self) -> Response:
        return Response(Endless(self, b"tick\n", 0.01))

    @route("/news")
    async def news(self) -> EventStream:
        return EventStream(Endless(self, b"tick", 0.01))

    @websocket_route("/deaf")
    async def deaf(self) -> None:
        self.open += 1
        try:
            await websocket.accept()  # pyright: ignore[reportUnknownMemberType]
            await self.go_on.wait()
        finally:
            self.open -= 1

    @route("/size", methods=["POST"])
    async def size(self) -> str:
        return str(len(await request.get_data()))

    async def opened(self, count: int, within: float = 60.0) -> None:
        """Wait until `count` routes are open."""
        with trio.fail_after(within):
            while self.open != count:
                await trio.sleep(0.01)


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[str, Runtime]]:
    """The URL of a desk and a ledger."""
    async with open_plugins(Desk, Ledger) as runtime, serving(runtime) as url:
        yield url, runtime
