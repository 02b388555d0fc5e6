"""Looks at each order, and fails at some: its fault is its own."""

from __future__ import annotations

from shop.events import OrderPlaced
from trivet import EventPlugin


class Fraud(EventPlugin[OrderPlaced]):
    """Does not know what to do about an order of nothing."""

    async def handle_event(self, event: OrderPlaced) -> None:
        """Compare an order with the usual ones."""
        self.log.info("checked", order=event.order_id, share=100 / event.total)
