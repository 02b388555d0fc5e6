"""Trivet's side: a route, an event that does nothing, points of each request, and a flood."""

from __future__ import annotations

from typing import ClassVar

import trio
from quart import request

from trivet import (
    App,
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    MonitoringPlugin,
    MonitoringPoint,
    route,
)

LARGE = b"x" * 1_000_000


class Ordered(Event):
    """An event that comes by HTTP."""

    order_id: str
    note: str


class Taker(EventPlugin[Ordered]):
    """Does nothing with events; publishers wait for room without limit."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(block_for=60.0)

    async def handle_event(self, event: Ordered) -> None:
        """Do nothing."""


class Points(MonitoringPlugin):
    """Does nothing with the points of each request."""

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        """Do nothing."""


class Drop(Event):
    """An event of the flood."""

    number: int


class Drowning(EventPlugin[Drop]):
    """A plugin that is flooded."""

    async def handle_event(self, event: Drop) -> None:
        """Do nothing."""


class Shop(BackgroundPlugin):
    """Says hello, and floods another plugin between `/flood/begin` and `/flood/end`."""

    def __init__(self, app: App) -> None:
        self._begun = trio.Event()
        self._is_on = False

    async def run(self) -> None:
        """Publish as fast as it can, while the flood is on."""
        while True:
            await self._begun.wait()
            number = 0
            while self._is_on:
                await self.app.publish(Drop(number))
                number += 1

    @route("/large")
    async def large(self) -> bytes:
        """An answer larger than the buffers of a client that does not read."""
        return LARGE

    @route("/hello")
    async def hello(self) -> dict[str, object]:
        """Answer as the bare application does."""
        return {"hello": "world"}

    @route("/asks")
    async def asks(self) -> dict[str, object]:
        """Answer with a part of the request, which Quart makes."""
        return {"hello": request.path}

    @route("/flood/begin", methods=["POST"])
    async def begin(self) -> dict[str, object]:
        """Begin the flood."""
        self._is_on = True
        self._begun.set()
        return {}

    @route("/flood/end", methods=["POST"])
    async def end(self) -> dict[str, object]:
        """End the flood."""
        self._is_on = False
        self._begun = trio.Event()
        return {}
