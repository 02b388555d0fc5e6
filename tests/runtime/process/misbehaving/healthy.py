"""The neighbour of every misbehaving plugin, which has to be closed whatever they do."""

from __future__ import annotations

import trio

from trivet import EventPlugin, MonitoringEvent, route


class Healthy(EventPlugin[MonitoringEvent]):
    async def handle_event(self, event: MonitoringEvent) -> None:
        pass

    @route("/slow")
    async def slow(self) -> str:
        self.log.info("healthy asked")
        await trio.sleep_forever()
        return "never"

    async def close(self) -> None:
        self.log.info("healthy closed")
