"""Reloads that are refused: the old program runs on, untouched, and the fault is named."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trivet import ConfigurationError, ReloadRefusedError, Runtime, Status
from trivet._program._collector import Faults
from trivet._program._overlay_file import Draft
from trivet._program._reading import Change, Reading
from trivet._program._structuring import NO_HINTS
from trivet._reload._looking import Looking
from trivet._reload._reloader import Reloader, reloading
from trivet._supervision import _orders

from .programs import COUNTING, Files, plugin

ACTIVE = 'active_plugins = ["counting"]\n'
DURABLE = "[plugins.counting.delivery]\ndurable = true\n"
SLOWLY = COUNTING.replace("self.seen.append", "await trio.sleep(1)\n        self.seen.append")
WITH_INIT = COUNTING + "\n    def __init__(self, app):\n        "


@pytest.fixture
def counting(files: Files) -> Files:
    """A program of one plugin."""
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE)
    return files


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """An event for which new code waits in a thread, as `sys.released`."""
    released = threading.Event()
    sys.released = released  # type: ignore[attr-defined]
    yield released
    released.set()
    del sys.released  # type: ignore[attr-defined]


@asynccontextmanager
async def hanging(files: Files, runtime: Runtime) -> AsyncGenerator[Reloader]:
    """A reloader whose first look at the settings hangs until `sys.released`."""
    hangs = [True]

    def read(
        faults: Faults, change: Change | None = None, hints: Mapping[str, str] = NO_HINTS
    ) -> Reading:
        if hangs and hangs.pop():
            sys.released.wait()  # type: ignore[attr-defined]
        return files.read(faults, change, hints)

    async with reloading(runtime, read) as reloader:
        yield reloader


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """A semaphore that each look in a thread releases at its end."""
    semaphore = threading.Semaphore(0)
    run: Any = Looking[Any].run

    def run_and_tell(looking: Looking[Any]) -> object:
        try:
            return run(looking)
        finally:
            semaphore.release()

    monkeypatch.setattr(Looking, "run", run_and_tell)
    return semaphore


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("raise SystemExit(3)", "counting.py:4: SystemExit: 3"),
        ("raise KeyboardInterrupt", "counting.py:4: KeyboardInterrupt"),
        ("raise BaseException('x')", "counting.py:4: BaseException: x"),
        ("raise GeneratorExit", "counting.py:4: GeneratorExit"),
        ("x = " + "(" * 500 + ")" * 500, "counting.py:4: SyntaxError"),
        ("x = " + "-" * 100000 + "1", r"counting(\.py|').*(Memory|Recursion)Error"),
        ("\0", "counting.py.*null"),
        (WITH_INIT + "raise OSError('no')", "'counting': its __init__ failed: OSError: no"),
        (WITH_INIT + "raise SystemExit(4)", "'counting': its __init__ failed: SystemExit: 4"),
        (COUNTING.replace("self.seen = []", "raise SystemExit(5)"), "did not start: SystemExit: 5"),
        (COUNTING + "\n    needs = ('counting',)\n", "in a circle: counting → counting"),
        (COUNTING + "\n    needs = ('nobody',)\n", "'counting' needs 'nobody'"),
    ],
)
async def test_new_code_that_leaves_by_any_error(counting: Files, text: str, fault: str) -> None:
    """The old instance handles events, whatever an import, `__init__` or `initialize` raises."""
    async with counting.running() as (runtime, reloader):
        host, module = runtime.hosts["counting"], sys.modules["trivet_plugins.counting"]
        counting.plugin("counting", text)
        with pytest.raises((ConfigurationError, ReloadRefusedError), match=fault):
            await reloader.reload_plugin("counting")
        assert runtime.hosts["counting"] is host
        assert sys.modules["trivet_plugins.counting"] is module
        number: Any = runtime.events["number"]
        await runtime.publish(number(3), wait=True)
        assert plugin(runtime, "counting").seen == [3]


@pytest.mark.real_time
async def test_an_import_that_hangs(
    counting: Files, release: threading.Event, ended: threading.Semaphore
) -> None:
    """After the limit of a start the reload is refused with the line, and others follow; what the
    thread imports at last changes nothing."""
    other = COUNTING.replace("Number", "Word").replace("Counting", "Other")
    counting.plugin("other", other)
    counting.settings('active_plugins = ["counting", "other"]\n[startup]\nlimit = 0.5')
    async with counting.running() as (runtime, reloader):
        module = sys.modules["trivet_plugins.counting"]
        file = counting.plugin("counting", "import sys\nsys.released.wait()\n" + COUNTING)
        with pytest.raises(ReloadRefusedError, match=rf"stands at {file}:5"):
            await reloader.reload()
        counting.plugin("counting", COUNTING)
        counting.plugin("other", other.replace("step: int = 1", "step: int = 7"))
        await reloader.reload_plugin("other")
        assert plugin(runtime, "other").step == 7
        assert ended.acquire(timeout=10)
        release.set()
        assert ended.acquire(timeout=10)
        assert sys.modules["trivet_plugins.counting"] is module
        await reloader.reload_plugin("counting")


@pytest.mark.real_time
async def test_a_look_that_hangs_before_it_imports(
    counting: Files, release: threading.Event, ended: threading.Semaphore
) -> None:
    """A reload that was refused while the settings were read imports nothing afterwards."""
    counting.settings(ACTIVE + "[startup]\nlimit = 1")
    async with counting.running() as (runtime, _), hanging(counting, runtime) as reloader:
        module, path = sys.modules["trivet_plugins.counting"], [*sys.meta_path]
        counting.plugin("counting", COUNTING.replace("step: int = 1", "step: int = 7"))
        with pytest.raises(ReloadRefusedError, match=r"`startup\.limit`"):
            await reloader.reload()
        release.set()
        assert ended.acquire(timeout=10)
        assert sys.modules["trivet_plugins.counting"] is module
        assert sys.meta_path == path
        await reloader.reload()
        assert plugin(runtime, "counting").step == 7


@pytest.mark.real_time
async def test_a_change_that_hangs_before_its_draft(
    counting: Files, release: threading.Event, ended: threading.Semaphore
) -> None:
    """A change that was refused for its time leaves no draft, whatever may be in it."""
    counting.settings(ACTIVE + "[startup]\nlimit = 1")
    async with counting.running() as (runtime, _), hanging(counting, runtime) as reloader:
        with pytest.raises(ReloadRefusedError, match=r"`startup\.limit`"):
            await reloader.change_settings({"max_body": 111}, None)
        release.set()
        assert ended.acquire(timeout=10)
        assert not [*counting.path.glob(".*.new")]
        await reloader.change_settings({"max_body": 222}, None)
        assert runtime.program.settings.max_body == 222
    assert "max_body = 222" in counting.overlay.read_text(encoding="utf-8")


@pytest.mark.real_time
async def test_a_disk_that_hangs_under_a_draft(
    counting: Files,
    release: threading.Event,
    ended: threading.Semaphore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refused change whose draft comes to the disk late spoils no other change's draft."""
    counting.settings(ACTIVE + "[startup]\nlimit = 1")
    fchmod, hangs = os.fchmod, [True]
    between: list[str] = []

    def late(descriptor: int, mode: int) -> None:
        if hangs and hangs.pop():
            release.wait()
        fchmod(descriptor, mode)

    take_place = Draft.take_place

    def end_the_other_first(draft: Draft) -> None:
        assert ended.acquire(timeout=10)
        release.set()
        assert ended.acquire(timeout=10)
        between.extend(each.name for each in counting.path.glob(".*.new"))
        take_place(draft)

    async with counting.running() as (runtime, reloader):
        monkeypatch.setattr(os, "fchmod", late)
        monkeypatch.setattr(Draft, "take_place", end_the_other_first)
        with pytest.raises(ReloadRefusedError, match=r"`startup\.limit`"):
            await reloader.change_settings({"max_body": 111}, None)
        await reloader.change_settings({"max_body": 222}, None)
        assert runtime.program.settings.max_body == 222
    assert len(between) == 1
    assert "max_body = 222" in counting.overlay.read_text(encoding="utf-8")
    assert not [*counting.path.glob(".*.new")]


@pytest.mark.real_time
async def test_an_initialize_that_cannot_be_cancelled(
    counting: Files, release: threading.Event
) -> None:
    """The reload is refused with the stack of the new instance, which is left behind."""
    counting.settings(ACTIVE + "[startup]\nlimit = 2\n[shutdown]\nclose = 0.1")
    hangs = "import sys\n        await trio.to_thread.run_sync(sys.released.wait)"
    async with counting.running() as (runtime, reloader):
        counting.plugin("counting", COUNTING.replace("self.seen = []", hangs))
        with trio.fail_after(20), pytest.raises(ReloadRefusedError, match="cannot be cancelled"):
            await reloader.reload_plugin("counting")
        counting.plugin("counting", COUNTING)
        await reloader.reload_plugin("counting")
        assert runtime.hosts["counting"].is_up
        release.set()


async def test_critical_while_disabled(counting: Files) -> None:
    """A disabled plugin cannot become critical, which would end the program."""
    async with counting.running() as (runtime, reloader):
        host = runtime.hosts["counting"]
        _orders.disable(host, runtime.program.settings.shutdown)
        await host.wait_for_status(Status.DISABLED)
        counting.settings(ACTIVE + "[plugins.counting.supervision]\ncritical = true")
        with pytest.raises(ReloadRefusedError, match=r"'counting' is disabled.*enable it first"):
            await reloader.reload()
        assert runtime.hosts["counting"] is host
        _orders.enable(host)
        await host.wait_for_status(Status.RUNNING)
        await reloader.reload()
        assert runtime.hosts["counting"].critical


@pytest.mark.parametrize("order", ["disable", "enable"])
async def test_an_order_in_the_meantime(
    counting: Files, order: str, autojump_clock: MockClock
) -> None:
    """A plugin that is enabled or disabled while a reload is under way is not replaced."""
    active = 'active_plugins = ["counting", "slow"]\n'
    slow = """
        class Slow(SourcePlugin):
            pause: float = 0.0

            async def initialize(self) -> None:
                await trio.sleep(self.pause)

            async def run(self) -> None:
                await trio.sleep_forever()
    """
    counting.plugin("slow", slow)
    counting.settings(active)
    async with counting.running(in_loop=True) as (runtime, reloader):
        host, limits = runtime.hosts["counting"], runtime.program.settings.shutdown
        if order == "enable":
            _orders.disable(host, limits)
            await host.wait_for_status(Status.DISABLED)
        counting.settings(active + "[plugins.counting]\nstep = 3\n[plugins.slow]\npause = 2")

        async def give() -> None:
            await trio.sleep(1)
            if order == "enable":
                _orders.enable(host)
            else:
                _orders.disable(host, limits)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give)
            with pytest.raises(ReloadRefusedError, match=f"was {order}d meanwhile"):
                await reloader.reload()
        assert runtime.hosts["counting"] is host


@pytest.mark.parametrize("durable", ["", DURABLE])
async def test_a_listener_that_takes_another_type(counting: Files, durable: str) -> None:
    """Events that wait for a plugin are not handed to code that does not listen to their type."""
    counting.plugin("counting", SLOWLY)
    counting.settings(ACTIVE + durable)
    other = SLOWLY.replace("[Number]", "[Word]").replace("event: Number", "event: Word")
    async with counting.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        for value in range(3):
            await runtime.publish(number(value))
        counting.plugin("counting", f"class Word(Event):\n    value: int\n{other}")
        with pytest.raises(ReloadRefusedError, match=r"'number'.*'counting'|'counting'.*'number'"):
            await reloader.reload_plugin("counting")
        runtime.hurry()


async def test_a_type_that_is_gone(counting: Files) -> None:
    """The store has events of it, which the next program could not read."""
    counting.plugin("types", "class Number(Event):\n    value: int\n")
    counting.plugin(
        "counting",
        SLOWLY.replace("class Number(Event):\n    value: int", "").replace("[Number]", "[Event]"),
    )
    counting.settings('event_types = ["types"]\n' + ACTIVE + DURABLE)
    async with counting.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        for value in range(3):
            await runtime.publish(number(value))
        counting.plugin("types", "class Word(Event):\n    value: int\n")
        with pytest.raises(ReloadRefusedError, match=r"'number' is no event type any more.*store"):
            await reloader.reload()
        runtime.hurry()


async def test_files_that_are_gone(counting: Files) -> None:
    """A plugin's file, or that of the settings, is named, and the program runs on."""
    file = counting.plugin("counting", COUNTING)
    async with counting.running() as (runtime, reloader):
        file.unlink()
        with pytest.raises(ConfigurationError, match="no plugin 'counting' in"):
            await reloader.reload()
        counting.toml.unlink()
        with pytest.raises(ConfigurationError, match=r"trivet\.toml: cannot be read"):
            await reloader.reload()
        number: Any = runtime.events["number"]
        await runtime.publish(number(3), wait=True)


async def test_a_route_of_two_plugins(counting: Files) -> None:
    """New code whose route another plugin has already is refused, with both places."""
    route = "\n    @route('/same')\n    async def same(self):\n        return {}\n"
    counting.plugin("other", "class Other(BackgroundPlugin):\n" + route)
    counting.settings('active_plugins = ["counting", "other"]')
    async with counting.running() as (runtime, reloader):
        host = runtime.hosts["counting"]
        counting.plugin("counting", COUNTING + route)
        with pytest.raises(ConfigurationError, match="/same"):
            await reloader.reload_plugin("counting")
        assert runtime.hosts["counting"] is host
