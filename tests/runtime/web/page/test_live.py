"""The stream that keeps the page live, and the curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trivet import Event, EventPlugin, Runtime
from trivet._web._page import _live
from trivet._web._page._live import Live, difference
from trivet._web._page._series import EVERY, KEPT, NAMES, Series
from trivet.testing import open_plugins


class Ordered(Event):
    pass


class Till(EventPlugin[Ordered]):
    async def handle_event(self, event: Ordered) -> None:
        return


class Idle(EventPlugin[Ordered]):
    async def handle_event(self, event: Ordered) -> None:
        await trio.sleep_forever()


@pytest.fixture(autouse=True)
def looks_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look may take so long that the next one comes later."""
    monkeypatch.setattr(_live, "perf_counter", lambda: 0.0)


NOBODY: dict[str, object] = {}
"""A client that may nothing."""


def merged(document: Any, patch: Any) -> Any:
    """RFC 7396, as the page's script does it."""
    if not isinstance(patch, dict):
        return patch
    changed = cast("dict[str, Any]", patch)
    result: dict[str, Any] = (
        dict(cast("dict[str, Any]", document)) if isinstance(document, dict) else {}
    )
    for name, value in changed.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@attrs.define
class Viewer:
    """A browser at the other end of a stream."""

    state: dict[str, Any] = attrs.field(factory=dict[str, Any])
    series: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    kinds: list[str] = attrs.field(factory=list[str])
    """The events that came, by their names."""
    stop: Mapping[str, float] | None = None

    async def take(self, part: bytes) -> None:
        """Take a part of the stream."""
        for text in part.decode().strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in text.splitlines())
            self.kinds.append(fields["event"])
            data = json.loads(fields["data"])
            match fields["event"]:
                case "state":
                    self.state = data
                case "change":
                    self.state = merged(self.state, data)
                case "series":
                    self.series = data["plugins"]
                case "stopping":
                    self.stop = data
                case _:
                    pass


def expected(live: Live) -> dict[str, Any]:
    """The state as JSON has it."""
    found: dict[str, Any] = json.loads(json.dumps(live.state()))
    return {**found, "client": {}}


async def test_differences_keep_a_viewer_up_to_date(autojump_clock: MockClock) -> None:
    """After the first state only differences come, one a second, and the viewer's state is the
    program's; a second viewer costs no further look."""
    async with open_plugins(Till) as runtime, trio.open_nursery() as nursery:
        live = Live(runtime, Series(runtime))
        first, second = Viewer(), Viewer()
        nursery.start_soon(live.watch, NOBODY, first.take)
        await trio.sleep(2.5)
        nursery.start_soon(live.watch, NOBODY, second.take)
        for _ in range(4):
            await runtime.publish(Ordered(), wait=True)
            await trio.sleep(1)
            assert first.state == second.state == expected(live)
        assert first.state["plugins"]["till"]["handled"] == 4
        assert first.kinds[:2] == ["state", "series"]
        assert {*first.kinds[2:]} == {"change"}
        assert first.kinds.count("change") == 6
        nursery.cancel_scope.cancel()


async def test_a_slow_viewer_gets_the_whole_state(autojump_clock: MockClock) -> None:
    """A viewer that has not read for some looks gets the whole state next, not the differences."""
    async with open_plugins(Till) as runtime, trio.open_nursery() as nursery:
        live = Live(runtime, Series(runtime))
        quick, slow = Viewer(), Viewer()
        reads = trio.Event()

        async def take(part: bytes) -> None:
            if slow.kinds[2:3]:
                await reads.wait()
            await slow.take(part)

        nursery.start_soon(live.watch, NOBODY, quick.take)
        nursery.start_soon(live.watch, NOBODY, take)
        await trio.sleep(5)
        reads.set()
        await runtime.publish(Ordered(), wait=True)
        await trio.sleep(2.5)
        assert slow.state == quick.state == expected(live)
        assert "state" in slow.kinds[2:]
        nursery.cancel_scope.cancel()


async def test_the_stop_is_told(autojump_clock: MockClock) -> None:
    """A stream ends when the stop begins, with the seconds that its stages may take."""
    viewer = Viewer()
    async with open_plugins(Till) as runtime, trio.open_nursery() as nursery:
        live = Live(runtime, Series(runtime))
        nursery.start_soon(live.watch, NOBODY, viewer.take)
        await trio.sleep(1.5)
        runtime.begin_stop()
    assert viewer.kinds[-1] == "stopping"
    assert viewer.stop == {"requests": 5.0, "inboxes": 17.0, "plugins": 23.0}


async def test_a_stream_ends_before_long(autojump_clock: MockClock) -> None:
    """After five minutes a browser has to ask again, and to show that it still may."""
    async with open_plugins(Till) as runtime:
        viewer = Viewer()
        began = trio.current_time()
        await Live(runtime, Series(runtime)).watch(NOBODY, viewer.take)
        assert trio.current_time() - began == pytest.approx(300, abs=1)
        assert viewer.kinds[-1] == "again"


async def test_the_pace(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that take long come less often, so that all of them take half a percent at most."""
    clock = iter(range(1000))
    monkeypatch.setattr(_live, "perf_counter", lambda: next(clock) * 0.05)
    async with open_plugins(Till) as runtime, trio.open_nursery() as nursery:
        viewer = Viewer()
        live = Live(runtime, Series(runtime))
        nursery.start_soon(live.watch, NOBODY, viewer.take)
        await trio.sleep(99)
        assert viewer.kinds.count("change") == 9  # Each takes 50 ms, so one comes every 10 s.
        nursery.cancel_scope.cancel()


documents = st.recursive(
    st.booleans() | st.integers() | st.text() | st.lists(st.integers()),
    lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=4),
)
objects = st.dictionaries(st.text(max_size=2), documents, max_size=4)


@given(before=objects, now=objects)
def test_a_difference_makes_the_new_document(before: dict[str, Any], now: dict[str, Any]) -> None:
    """The old document with the difference merged into it is the new one; that between equal ones
    is empty."""
    assert merged(before, difference(before, now)) == now
    assert difference(now, now) == {}


async def published(runtime: Runtime, number: int) -> None:
    """Publish events."""
    for _ in range(number):
        await runtime.publish(Ordered())
    await trio.testing.wait_all_tasks_blocked()


async def test_curves(autojump_clock: MockClock) -> None:
    """A sample has the rates since the last one; only the last quarter of an hour is kept, and
    curves of zeros are left out."""
    async with open_plugins(Till, Idle) as runtime, trio.open_nursery() as nursery:
        series = Series(runtime)
        nursery.start_soon(series.keep)
        await trio.sleep(EVERY + 1)  # Nothing is compared with what was before the first sample.
        await published(runtime, 20)
        await trio.sleep(EVERY)
        assert series.described_last() == {"till": [2, 2, 0, 0], "idle": [2, 0, 20, 0]}
        await trio.sleep(3 * EVERY)
        curves = series.described()
        assert curves["till"]["in"][-5:] == [0, 2, 0, 0, 0]
        assert curves["idle"]["waiting"][-5:] == [0, 20, 20, 20, 20]
        assert {*curves["till"]} == {"in", "out"}
        assert {*curves["idle"]} <= {*NAMES}
        assert len(curves["till"]["in"]) == KEPT
        await trio.sleep(KEPT * EVERY)
        assert series.described()["till"] == {}
        nursery.cancel_scope.cancel()


async def test_curves_that_nobody_has_kept(autojump_clock: MockClock) -> None:
    """Under somebody else's server a sample is taken when somebody looks; it stands for all that
    are missing."""
    async with open_plugins(Till) as runtime:
        series = Series(runtime)
        await trio.sleep(EVERY)
        series.sample()
        await published(runtime, 30)
        await trio.sleep(3 * EVERY)
        series.sample()
        assert series.described()["till"]["in"][-5:] == [0, 0, 1, 1, 1]
        assert series.number == 4
