"""The places where plugins come in: what happens in the shop, and what they may do then.

Owns the interface between the shop and its plugins.
Never knows a plugin, nor the framework.
"""

from __future__ import annotations

from trivet import Event


class OrderPlaced(Event, from_outside=False):
    """A customer has placed an order. Only the shop publishes such events."""

    order_id: str
    customer: str
    total: float
