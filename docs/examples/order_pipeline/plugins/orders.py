"""The event that both programs know. A file without a plugin is a neighbour to import from."""

from __future__ import annotations

from trivet import Event


class OrderPlaced(Event):
    """A customer has placed an order."""

    order_id: str
    customer: str
    total: float
