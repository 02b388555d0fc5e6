"""Counts points for each customer: a plugin with an event and a route."""

from __future__ import annotations

from collections import Counter

import attrs
from attrs.validators import gt

from shop.events import OrderPlaced
from trivet import EventPlugin, route


class Loyalty(EventPlugin[OrderPlaced]):
    """A point for each full `euros_per_point`."""

    euros_per_point: float = attrs.field(default=10.0, validator=gt(0))
    """Euros for which a customer gets a point."""

    _points: Counter[str] = attrs.field(factory=Counter[str])

    async def handle_event(self, event: OrderPlaced) -> None:
        """Add the points of one order."""
        self._points[event.customer] += int(event.total // self.euros_per_point)

    @route("/loyalty/<customer>")
    async def points(self, customer: str) -> dict[str, int]:
        """Answer with the points of a customer."""
        return {"points": self._points[customer]}
