"""Durable inboxes that a reload brings, takes away, and brings again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trivet import Fate, ReloadRefusedError, Runtime
from trivet._delivery._beyond import WINDOW
from trivet._store._journal import Journal
from trivet._store._records import JournalInUseError
from trivet._store._store import Store
from trivet._supervision import _orders

from .programs import COUNTING, Files, plugin

STORE = '[store]\nsynchronous = "normal"\n'
DURABLE = f"{STORE}[plugins.counting.delivery]\ndurable = true\n"
WITH = f'active_plugins = ["counting"]\n{DURABLE}'
WITHOUT = f"active_plugins = []\n{DURABLE}"
NEIGHBOUR = """
class Word(Event):
    value: int

class Speaking(EventPlugin[Word]):
    async def handle_event(self, event: Word) -> None:
        pass
"""


@pytest.fixture
def store_in_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the event loop write the store, for a clock that jumps."""
    monkeypatch.setattr("trivet._store._store.Store", partial(Store, in_loop=True))


async def publish(runtime: Runtime, values: range) -> None:
    """Publish numbers, each of which is accepted."""
    number: Any = runtime.events["number"]
    for value in values:
        outcome = await runtime.publish(number(value))
        assert outcome.fates["counting"].alive or outcome.fates["counting"] is Fate.HANDLED


async def all_handled(runtime: Runtime) -> None:
    """Wait until the plugin has nothing left."""
    while (counts := runtime.statistics()["counting"]).accepted > counts.handled:
        await trio.sleep(0.01)


@pytest.mark.parametrize("has_store", [False, True])
async def test_a_durable_plugin_starts_by_a_reload(files: Files, has_store: bool) -> None:
    """Its events are in the store from the first one on, be it that the reload opens the store; the
    next program has what was not handled."""
    files.plugin("counting", COUNTING)
    files.plugin("speaking", NEIGHBOUR)
    speaking = "[plugins.speaking.delivery]\ndurable = true\n" if has_store else ""
    files.settings(f'active_plugins = ["speaking"]\n{DURABLE}{speaking}')
    with_both = f'active_plugins = ["speaking", "counting"]\n{DURABLE}{speaking}'
    async with files.running() as (runtime, reloader):
        assert (runtime.store is not None) is has_store
        files.settings(with_both)
        (change,) = await reloader.reload()
        assert (change.what, change.result) == ("plugins.counting", "started")
        await publish(runtime, range(10))
        await all_handled(runtime)
        assert plugin(runtime, "counting").seen == list(range(10))
        assert runtime.durable >= {"counting"}
        _orders.pause(runtime.hosts["counting"])
        await publish(runtime, range(10, 20))
    async with files.running() as (runtime, _):
        await all_handled(runtime)
        assert plugin(runtime, "counting").seen == list(range(10, 20))


@pytest.mark.parametrize(("count", "takes"), [(10, 3), (WINDOW + 100, 0.01)])
async def test_events_wait_for_a_plugin_that_comes_again(
    files: Files, autojump_clock: MockClock, store_in_loop: None, count: int, takes: float
) -> None:
    """A plugin that a reload takes away finishes the event that it has in flight; it gets the
    others when another reload brings it back, in order, although their type was gone meanwhile."""
    files.plugin(
        "counting",
        COUNTING.replace("self.seen.a", f"await trio.sleep({takes})\n        self.seen.a"),
    )
    files.settings(WITH)
    async with files.running(in_loop=True) as (runtime, reloader):
        before = plugin(runtime, "counting")
        await publish(runtime, range(count))
        files.settings(WITHOUT)
        handled = runtime.statistics()["counting"].handled
        await reloader.reload()
        assert before.seen == list(range(handled + 1))
        assert "number" not in runtime.events
        files.settings(WITH)
        await reloader.reload()
        await publish(runtime, range(count, count + 2))
        await all_handled(runtime)
        after = plugin(runtime, "counting")
        assert before.seen + after.seen == list(range(count + 2))
        assert runtime.store is not None
        assert runtime.store.bytes == 0


async def test_a_page_that_comes_when_its_plugin_has_left(
    files: Files,
    autojump_clock: MockClock,
    store_in_loop: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page that was asked for before the plugin left is not looked at: its events are of a type
    that is gone, and would go to the dead letters."""
    readings: list[Callable[[], None]] = []
    read = Store.read

    def read_later(*args: Any) -> None:
        readings.append(partial(read, *args))

    files.plugin("counting", COUNTING)
    files.settings(WITH)
    async with files.running(in_loop=True) as (runtime, reloader):
        before = plugin(runtime, "counting")
        _orders.pause(runtime.hosts["counting"])
        await publish(runtime, range(WINDOW + 100))
        monkeypatch.setattr(Store, "read", read_later)
        _orders.resume(runtime.hosts["counting"])
        while not readings:
            await trio.sleep(0.1)
        files.settings(WITHOUT)
        await reloader.reload()
        monkeypatch.setattr(Store, "read", read)
        for each in readings:
            each()
        await trio.sleep(1)
        files.settings(WITH)
        await reloader.reload()
        await all_handled(runtime)
        after = plugin(runtime, "counting")
        assert before.seen + after.seen == list(range(WINDOW + 100))


async def test_new_code_brings_a_durable_inbox(files: Files) -> None:
    """A plugin that took no events, and whose new code takes some, is registered, too."""
    files.plugin("counting", COUNTING.replace("EventPlugin[Number]", "BackgroundPlugin"))
    files.settings('active_plugins = ["counting"]')
    async with files.running() as (runtime, reloader):
        files.plugin("counting", COUNTING)
        files.settings(WITH)
        await reloader.reload()
        assert runtime.durable == {"counting"}
        await publish(runtime, range(3))
        await all_handled(runtime)


async def test_the_store_refuses(files: Files) -> None:
    """A reload is refused as a whole while another process has the file, and nothing is open; when
    it is free, the same reload succeeds."""
    files.plugin("counting", COUNTING)
    files.settings(WITHOUT)
    async with files.running() as (runtime, reloader):
        other = Journal.open(files.path / "trivet.sqlite3")
        files.settings("max_body = 2000\n" + WITH)
        with pytest.raises(ReloadRefusedError, match="'counting', which would be durable"):
            await reloader.reload()
        assert (runtime.store, dict(runtime.hosts), runtime.statistics()) == (None, {}, {})
        assert runtime.program.settings.max_body != 2000
        other.close()
        await reloader.reload()
        await publish(runtime, range(3))
        await all_handled(runtime)


@pytest.mark.parametrize("has_store", [False, True])
async def test_a_reload_that_fails_later_leaves_no_trace(files: Files, has_store: bool) -> None:
    """The store is as it was: closed, if nobody needs it, and without events for the plugin."""
    files.plugin("speaking", NEIGHBOUR)
    speaking = "[plugins.speaking.delivery]\ndurable = true\n" if has_store else ""
    files.settings(f'active_plugins = ["speaking"]\n{DURABLE}{speaking}')
    files.plugin("counting", COUNTING.replace("self.seen = []", "raise OSError('no')"))
    async with files.running() as (runtime, reloader):
        files.settings(f'active_plugins = ["speaking", "counting"]\n{DURABLE}{speaking}')
        with pytest.raises(ReloadRefusedError, match="OSError: no"):
            await reloader.reload()
        if has_store:
            with pytest.raises(JournalInUseError):
                Journal.open(files.path / "trivet.sqlite3")
        else:
            assert runtime.store is None
            Journal.open(files.path / "trivet.sqlite3").close()
        assert list(runtime.statistics()) == ["speaking"]
        files.plugin("counting", COUNTING)
        await reloader.reload()
        await publish(runtime, range(3))
        await all_handled(runtime)
    async with files.running() as (runtime, _):
        assert runtime.statistics()["counting"].accepted == 0


async def test_the_settings_of_a_store_that_is_not_open(files: Files) -> None:
    """`[store]` changes with the reload that opens it; from then on it needs a restart."""
    files.plugin("counting", COUNTING)
    files.settings(WITHOUT)
    async with files.running() as (runtime, reloader):
        files.settings(WITH.replace("[store]", '[store]\npath = "elsewhere.db"'))
        changes = await reloader.reload()
        assert [(each.what, each.result) for each in changes] == [
            ("store", "changed"),
            ("plugins.counting", "started"),
        ]
        assert (files.path / "elsewhere.db").exists()
        assert not (files.path / "trivet.sqlite3").exists()
        files.settings(WITH.replace("[store]", '[store]\npath = "third.db"'))
        (change,) = await reloader.reload()
        assert (change.what, change.result) == ("store", "needs a restart")
        assert runtime.store is not None
        assert runtime.store.path == files.path / "elsewhere.db"


async def test_stored_events_never_have_two_readers(
    files: Files, autojump_clock: MockClock, store_in_loop: None
) -> None:
    """A plugin whose instance does not end cannot come again while it is there."""
    hangs = """
    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await self.app.may_end.wait()
    """
    files.plugin("counting", COUNTING + hangs)
    files.settings(WITH)
    async with files.running(in_loop=True) as (runtime, reloader):
        may_end: Any = trio.Event()
        runtime.may_end = may_end  # type: ignore[attr-defined]
        files.settings(WITHOUT)
        await reloader.reload()
        files.settings(WITH)
        with pytest.raises(ReloadRefusedError, match="its old instance has not ended"):
            await reloader.reload()
        may_end.set()
        await trio.sleep(1)
        await reloader.reload()
        await publish(runtime, range(3))
        await all_handled(runtime)
