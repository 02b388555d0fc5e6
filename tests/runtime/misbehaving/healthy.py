"""What stands beside each of the others, and has to be closed whatever they do."""

from __future__ import annotations

from trivet import EventPlugin, MonitoringEvent


class Healthy(EventPlugin[MonitoringEvent]):
    async def handle_event(self, event: MonitoringEvent) -> None:
        pass

    async def close(self) -> None:
        self.log.info("healthy closed")
