"""A plugin without routes: its service has events and probes."""

from __future__ import annotations

from trivet import Event, EventPlugin


class Said(Event):
    """An event."""


class Quiet(EventPlugin[Said]):
    """A subscriber that does nothing."""

    async def handle_event(self, event: Said) -> None:
        """Handle an event: do nothing."""
