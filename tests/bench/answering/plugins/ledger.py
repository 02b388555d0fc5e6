"""An event that is on the disk before its publisher is answered."""

from __future__ import annotations

from typing import ClassVar

from trivet import DeliverySettings, Event, EventPlugin


class Noted(Event):
    """An event that comes by HTTP."""

    order_id: str
    note: str


class Ledger(EventPlugin[Noted]):
    """Does nothing with events; publishers wait for room without limit."""

    delivery: ClassVar[DeliverySettings] = DeliverySettings(durable=True, block_for=60.0)

    async def handle_event(self, event: Noted) -> None:
        """Do nothing."""
