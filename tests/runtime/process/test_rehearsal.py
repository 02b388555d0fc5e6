from __future__ import annotations

from typing import Any

import pytest
import trio

from trivet import App, BackgroundPlugin, Event, EventPlugin, Settings, StartupSettings
from trivet._process._rehearsal import rehearse
from trivet._program._loader import load

ORDER: list[str] = []


class Tea(Event): ...


class Pot(BackgroundPlugin):
    async def initialize(self) -> None:
        ORDER.append("start pot")

    async def run(self) -> None:
        ORDER.append("run")

    async def close(self) -> None:
        ORDER.append("stop pot")


class Cup(EventPlugin[Tea]):
    needs = (Pot,)

    async def initialize(self) -> None:
        ORDER.append("start cup")
        outcome = await self.app.publish(Tea())
        ORDER.append(f"{len(outcome.fates)} subscribers")

    async def handle_event(self, event: Tea) -> None:
        ORDER.append("event")

    async def close(self) -> None:
        ORDER.append("stop cup")


class Away(BackgroundPlugin):
    async def initialize(self) -> None:
        raise OSError("away")


class NeedsAway(BackgroundPlugin):
    needs = (Away,)


class Slow(BackgroundPlugin):
    async def initialize(self) -> None:
        await trio.sleep_forever()


class BadEnd(BackgroundPlugin):
    async def close(self) -> None:
        raise OSError("bad end")


class Unmade(BackgroundPlugin):
    def __init__(self, app: App) -> None:
        raise OSError("unmade")


def test_plugins_start_and_stop_in_order_and_do_not_run() -> None:
    """`initialize` and `close` are called in the order of needs; no `run`, and no event."""
    ORDER.clear()
    assert rehearse(load(Settings(), plugins=[Cup, Pot])) == []
    assert ORDER == ["start pot", "start cup", "0 subscribers", "stop cup", "stop pot"]


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        ([Away, NeedsAway, Pot], ["'away' did not start: OSError: away", "needs 'away'"]),
        ([Slow], ["'slow' did not start: TimeoutError: initialize() took longer than 0.1 s"]),
        ([BadEnd], ["'bad_end' did not close: OSError: bad end"]),
        ([Unmade, Pot], ["'unmade': its __init__ failed"]),
    ],
)
def test_faults(plugins: list[Any], said: list[str]) -> None:
    """A plugin that cannot be made, started within its limit, or closed is a fault."""
    settings = Settings(startup=StartupSettings(limit=0.1))
    found = rehearse(load(settings, plugins=plugins))
    assert len(found) == len(said)
    for line, part in zip(found, said, strict=True):
        assert part in line
