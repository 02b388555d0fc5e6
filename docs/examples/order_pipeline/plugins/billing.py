"""Bills each order, and gives up those above a limit.

Shows an error that no other attempt mends, dead letters, and a setting that an operator changes.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import trio
from attrs.validators import gt

from trivet import DeliverySettings, EventPlugin, PermanentError, encode_event

from .orders import OrderPlaced


class Billing(EventPlugin[OrderPlaced]):
    """Writes a bill for each order: those of one customer in their order, others side by side."""

    delivery = DeliverySettings(durable=True, concurrency=8, ordering_key="customer")

    limit: float = attrs.field(default=100.0, validator=gt(0))
    """The highest total that is billed without a person's look at it."""
    file: Path = Path("bills.ndjson")
    """The file of the bills, relative to the working directory."""

    async def handle_event(self, event: OrderPlaced) -> None:
        """Bill one order."""
        if event.total > self.limit:
            raise PermanentError(f"a total of {event.total:g} is above {self.limit:g}")
        line = encode_event(event) + b"\n"
        async with await trio.open_file(self.file, "ab") as file:
            await file.write(line)
