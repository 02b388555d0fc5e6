from __future__ import annotations

from contextlib import ExitStack
from mmap import mmap
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trivet import ConfigurationError, MonitoringPlugin, MonitoringPoint, Runtime
from trivet.testing import open_plugins


class Seen(MonitoringPlugin):
    """Keeps the points, each with the moment in which it came."""

    async def initialize(self) -> None:
        self.points: list[tuple[float, MonitoringPoint]] = []

    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        self.points += [(trio.current_time(), point) for point in points]


def field(runtime: Runtime, name: str) -> float:
    """The latest value of a field."""
    _, point = runtime.get(Seen).points[-1]
    value = point.fields[name]
    assert isinstance(value, int | float)
    return value


async def test_a_point_each_interval(autojump_clock: MockClock) -> None:
    """Every `interval` seconds there is one point of what the process uses."""
    begun = trio.current_time()
    settings = {"resource_monitor": {"interval": 30}}
    async with open_plugins("resource_monitor", Seen, settings=settings, service="tea") as runtime:
        await trio.sleep(100)
        points = runtime.get(Seen).points
    assert [at - begun for at, _ in points] == pytest.approx([30, 60, 90])
    for _, point in points:
        assert (point.series, point.tags) == ("resources", {"service": "tea"})
        assert set(point.fields) == {"cpu", "memory", "open_files", "loop_lag"}


async def test_it_counts_what_the_process_holds(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Files that are opened and bytes that are taken are in the next point."""
    async with open_plugins("resource_monitor", Seen) as runtime:
        await trio.sleep(11)
        files, memory = field(runtime, "open_files"), field(runtime, "memory")
        with ExitStack() as stack:
            for number in range(25):
                stack.enter_context((tmp_path / str(number)).open("w"))
            block = stack.enter_context(mmap(-1, 50_000_000))  # An allocator may reuse memory.
            block[:] = bytes(len(block))
            await trio.sleep(10)
            assert field(runtime, "open_files") - files == 25
            assert field(runtime, "memory") - memory > 0.9 * len(block)


async def test_it_sees_a_loop_that_was_held(autojump_clock: MockClock) -> None:
    """The worst lateness of an interval is in its point, and not in the next one."""
    async with open_plugins("resource_monitor", Seen) as runtime:
        await trio.sleep(4.95)
        autojump_clock.jump(3)
        await trio.sleep(3)
        assert field(runtime, "loop_lag") == pytest.approx(2.95, abs=0.1)
        await trio.sleep(10)
        assert field(runtime, "loop_lag") == pytest.approx(0, abs=0.01)


async def test_an_interval_is_positive(autojump_clock: MockClock) -> None:
    """An interval of no seconds is refused before anything starts."""
    settings = {"resource_monitor": {"interval": 0}}
    with pytest.raises(ConfigurationError, match="interval"):
        async with open_plugins("resource_monitor", settings=settings):
            pass
