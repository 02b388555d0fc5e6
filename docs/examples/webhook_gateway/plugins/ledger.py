"""Writes each payment down, a line of JSON each.

Shows a plugin whose events must arrive: they stay on the disk until they are handled.
"""

from __future__ import annotations

from pathlib import Path

import trio

from trivet import DeliverySettings, EventPlugin, encode_event

from .gateway import PaymentReceived


class Ledger(EventPlugin[PaymentReceived]):
    """Appends the payments to a file."""

    delivery = DeliverySettings(durable=True)

    file: Path = Path("payments.ndjson")
    """The file, relative to the working directory."""

    async def handle_event(self, event: PaymentReceived) -> None:
        """Write one payment."""
        line = encode_event(event) + b"\n"
        async with await trio.open_file(self.file, "ab") as file:
            await file.write(line)
