"""Events, a recorder and questions that the tests of this room share."""

from __future__ import annotations

import sniffio

from trivet import (
    App,
    Event,
    EventPlugin,
    Runtime,
    Status,
    SupervisionSettings,
    current_delivery,
)

NEVER = SupervisionSettings(restart="temporary")


class Ping(Event):
    number: int = 0


class Pong(Event):
    number: int = 0


class Recorder(EventPlugin[Pong]):
    """Records the events that a plugin on asyncio publishes."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.seen: list[tuple[int, str | None]] = []

    async def handle_event(self, event: Pong) -> None:
        self.seen.append((event.number, current_delivery().request_id))


def library() -> str:
    """The library, `trio` or `asyncio`, on which this is called."""
    return sniffio.current_async_library()


async def failed(runtime: Runtime, plugin: str) -> BaseException:
    """Wait until the plugin is given up; return its failure."""
    host = runtime.hosts[plugin]
    await host.wait_for_status(Status.FAILED)
    assert host.failure is not None
    return host.failure
