"""The plugin that holds the event loop is reported while it does, and no other."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event as ThreadEvent
from typing import Any

import attrs
import pytest
import structlog
import trio

from trivet import (
    SERVICE,
    BackgroundPlugin,
    ConfigurationError,
    Runtime,
    StallSettings,
    load_settings,
    route,
)
from trivet._faults._frames import Authors, lines_of
from trivet._loop._meter import StallMeter
from trivet._loop._processor import Processor, Sample
from trivet._loop._stall_watch import COMPUTES, WAITS
from trivet.testing import client, open_plugins

from ..places import line_of

pytestmark = pytest.mark.real_time

Log = dict[str, Any]
QUICK = StallSettings(warn=0.02, error=0.1)


class Logs:
    """The log, also of other threads while the event loop is held."""

    def __init__(self) -> None:
        self.lines: list[Log] = []
        self.held = ThreadEvent()
        """Set when a line says that the loop is held."""
        self.alarmed = ThreadEvent()
        """Set when such a line is an error."""

    def __call__(self, logger: object, method: str, event: Any) -> Any:
        self.lines.append({**event, "log_level": method})
        if event["event"] == "the event loop is held":
            (self.alarmed if method == "error" else self.held).set()
        raise structlog.DropEvent

    def of(self, event: str) -> list[Log]:
        """The lines of an event."""
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture
def logs() -> Iterator[Logs]:
    """Collect the log."""
    collected = Logs()
    structlog.configure(processors=[collected])
    yield collected
    structlog.reset_defaults()


class Hog(BackgroundPlugin):
    """A plugin that holds the loop on demand."""

    async def initialize(self) -> None:
        self._go = trio.Event()
        self.hold: Callable[[], object] = time.time
        self.done = trio.Event()

    async def run(self) -> None:
        await self._go.wait()
        self.keep_the_others_waiting()
        self.done.set()
        await trio.sleep_forever()

    def keep_the_others_waiting(self) -> None:
        self.hold()

    @route("/hold")
    async def answer(self) -> str:
        self.keep_the_others_waiting()
        return "done"

    def go(self) -> None:
        """Make the plugin hold the loop."""
        self._go.set()


class Victim(BackgroundPlugin):
    async def run(self) -> None:
        while True:
            await trio.sleep(0.001)


def here(needle: str) -> str:
    """The first place of a text in this file."""
    return f"{__file__}:{line_of(Path(__file__), needle)}"


def told(event: ThreadEvent) -> Callable[[], object]:
    """Hold the loop until the event is set, at most for a while."""

    def hold() -> bool:
        return event.wait(20)

    return hold


def take_sample(meter: StallMeter | None) -> None:
    """Take a sample of the loop's thread, so that the meter knows exactly how long the next step
    waits for a processor: waits since the sample before a step are not charged to the step."""
    assert meter is not None
    meter.samples = meter.samples[1], meter.sample()


async def held(runtime: Runtime, hold: Callable[[], object]) -> None:
    """Have the hog hold the loop."""
    hog = runtime.get(Hog)
    hog.hold = hold
    hog.go()
    with trio.fail_after(60):  # A hog that fails is never done.
        await hog.done.wait()


async def test_a_plugin_that_holds_the_loop_is_named_meanwhile(logs: Logs) -> None:
    """The plugin, task, line and stack of a stall are logged before the loop is free again."""
    async with open_plugins(Hog, Victim, stalls=QUICK) as runtime:
        await held(runtime, told(logs.held))
        assert logs.held.is_set()
    (line,) = [log for log in logs.of("the event loop is held") if log["log_level"] == "warning"]
    assert (line["plugin"], line["left_out"]) == ("hog", 0)
    assert line["seconds"] >= 0.02
    assert line["at"] == here("return event.wait(20)")
    assert "keep_the_others_waiting" in line["stack"]
    assert "supervise" in line["task"]


async def test_a_long_one_is_an_error_and_its_end_is_told(logs: Logs) -> None:
    """After `error` seconds there is another line, and one when the loop is free again."""
    async with open_plugins(Hog, stalls=QUICK) as runtime:
        await held(runtime, told(logs.alarmed))
        assert logs.alarmed.is_set()
        while not logs.of("the event loop is free again"):
            await trio.sleep(0.001)
    (line,) = [log for log in logs.of("the event loop is held") if log["log_level"] == "error"]
    assert line["plugin"] == "hog"
    assert line["seconds"] >= 0.1
    assert logs.of("the event loop is free again")[0]["plugin"] == "hog"


async def test_the_hog_is_charged_and_its_victim_is_not(logs: Logs) -> None:
    """`usage()` charges the time, and counts the stall, to the plugin that held the loop."""
    async with open_plugins(Hog, Victim, stalls=QUICK) as runtime:
        await held(runtime, told(logs.alarmed))
        usage = runtime.usage()
        assert usage["hog"].busy >= usage["hog"].longest >= 0.1
        assert usage["hog"].stalls == 1
        assert 0 < usage["hog"].share <= 1
        assert 0 < usage["victim"].busy < usage["hog"].busy
        described = await (await client(runtime).get("/plugins")).get_json()
        assert described["plugins"]["hog"]["usage"]["stalls"] == 1
        assert runtime.usage()[SERVICE].busy > 0


async def test_a_route_is_charged_to_its_plugin(logs: Logs) -> None:
    """The work for a plugin's route is the plugin's, although the task is the server's."""
    async with open_plugins(Hog, stalls=QUICK) as runtime:
        requests = client(runtime)
        await requests.get("/hold")  # The first request of all may take the framework long itself.
        await trio.lowlevel.checkpoint()
        logs.lines.clear()
        logs.held.clear()
        runtime.get(Hog).hold = told(logs.held)
        await requests.get("/hold")
    assert {line["plugin"] for line in logs.of("the event loop is held")} == {"hog"}


async def test_a_call_that_holds_the_interpreter_is_reported_afterwards(logs: Logs) -> None:
    """A call that lets no other thread run is reported at its end."""
    evil = re.compile(r"(a+)+$")
    text = "a" * 22 + "b"
    began = time.thread_time()  # What it waits for a processor is not counted.
    evil.match(text)
    takes = time.thread_time() - began
    settings = StallSettings(warn=takes / 4, error=takes * 100)
    async with open_plugins(Hog, stalls=settings) as runtime:
        await held(runtime, lambda: evil.match(text))
        while not (lines := logs.of("the event loop was held") + logs.of("the event loop is held")):
            await trio.sleep(0.001)
    assert lines[0]["plugin"] == "hog"


async def test_the_same_line_is_told_once_a_minute(logs: Logs) -> None:
    """A plugin that holds the loop again and again does not fill the log."""

    class Often(BackgroundPlugin):
        async def initialize(self) -> None:
            self.begin, self.done = trio.Event(), trio.Event()
            self.meter: StallMeter | None = None

        async def run(self) -> None:
            await self.begin.wait()
            for _ in range(5):
                take_sample(self.meter)
                await trio.lowlevel.checkpoint()
                time.sleep(0.06)  # noqa: ASYNC251 - that is the point
                await trio.lowlevel.checkpoint()
            self.done.set()
            await trio.sleep_forever()

    async with open_plugins(Often, stalls=QUICK) as runtime:
        often = runtime.get(Often)
        often.meter = runtime.meter
        often.begin.set()
        await often.done.wait()
        assert runtime.usage()["often"].stalls == 5
    warned = [line for line in logs.of("the event loop is held") if line["log_level"] == "warning"]
    assert len(warned) <= 1


async def test_a_meter_that_was_removed_is_missed(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a plugin removes the instrument, one line says that stalls go unseen."""
    monkeypatch.setattr("trivet._loop._stall_watch.CHECK_EVERY", 0.05)
    async with open_plugins(Victim, stalls=QUICK) as runtime:
        assert runtime.meter is not None
        trio.lowlevel.remove_instrument(runtime.meter)
        with trio.fail_after(60):
            while not logs.of("somebody has removed the meter of the event loop: stalls go unseen"):
                await trio.sleep(0.01)


async def test_an_idle_loop_is_not_missed(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle loop answers, too, and there is no warning."""
    monkeypatch.setattr("trivet._loop._stall_watch.CHECK_EVERY", 0.02)
    async with open_plugins(Hog, stalls=QUICK):
        await trio.sleep(0.3)
    assert not [line for line in logs.lines if line["log_level"] == "error"]


async def test_processor_time_is_shared_by_use(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that computes has about as much processor time as it held the loop."""
    monkeypatch.setattr("trivet._loop._stall_watch.CHECK_EVERY", 0.05)

    class Computes(BackgroundPlugin):
        async def run(self) -> None:
            while True:
                sum(range(20_000))
                await trio.lowlevel.checkpoint()

    async with open_plugins(Computes, stalls=StallSettings()) as runtime:
        with trio.fail_after(60):
            while "computes" not in runtime.usage() or runtime.usage()["computes"].cpu < 0.05:
                await trio.sleep(0.01)
        usage = runtime.usage()["computes"]
        assert usage.cpu <= usage.busy * 1.5


async def test_the_watch_can_be_switched_off() -> None:
    """Disabled stalls leave no instrument and no account."""
    async with open_plugins(Hog, stalls=StallSettings(enabled=False)) as runtime:
        assert runtime.meter is None
        assert runtime.usage() == {}


def test_an_error_comes_after_the_warning() -> None:
    """`error` below `warn` is refused, with the key."""
    environ = {"TRIVET_STALLS__WARN": "2", "TRIVET_STALLS__ERROR": "1"}
    with pytest.raises(ConfigurationError, match=r"(?i)stalls.*at least `warn`"):
        load_settings(environ=environ)


# What is the plugin's, and what is the machine's.


class StubProcessor(Processor):
    """A thread that, for some plugins' steps, waits for a processor all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.starved = 0.0

    def sample(self) -> Sample:
        """The real sample, with the time for which the machine had no processor."""
        return attrs.evolve(super().sample(), starved=self.starved)


async def test_a_thread_without_a_processor_is_no_stall() -> None:
    """The time for which the machine had no processor is not the plugin's."""
    processor = StubProcessor()
    meter = StallMeter(0.05, processor=processor)
    trio.lowlevel.add_instrument(meter)
    await trio.lowlevel.checkpoint()
    time.sleep(0.1)  # noqa: ASYNC251 - in which, as it says, it wants to run
    processor.starved += 0.1
    await trio.lowlevel.checkpoint()
    assert meter.accounts[SERVICE].stalls == 0
    assert meter.accounts[SERVICE].busy < 0.1
    take_sample(meter)
    await trio.lowlevel.checkpoint()
    time.sleep(0.1)  # noqa: ASYNC251 - in which it does not
    await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(meter)
    assert meter.accounts[SERVICE].stalls == 1
    assert meter.accounts[SERVICE].longest >= 0.05


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of waits for a processor")
async def test_a_busy_machine_is_nobodys_stall(logs: Logs) -> None:
    """Beside processes that want the same processor, computing a little is not reported."""
    (processor, *_), before = sorted(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    burn = [sys.executable, "-c", "while True: pass"]
    os.sched_setaffinity(0, {processor})
    hogs = [subprocess.Popen(burn) for _ in range(6)]  # noqa: ASYNC220 - they inherit it
    try:
        meter = StallMeter(0.15)
        trio.lowlevel.add_instrument(meter)
        longest = 0.0
        for _ in range(50):
            if longest > 0.2:
                break
            take_sample(meter)
            await trio.lowlevel.checkpoint()
            began, used = time.perf_counter(), time.thread_time()
            while time.thread_time() - used < 0.04:
                pass
            longest = max(longest, time.perf_counter() - began)
        await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(meter)
    finally:
        os.sched_setaffinity(0, before)
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert longest > 0.2
    assert meter.accounts[SERVICE].stalls == 0


@pytest.mark.parametrize(
    ("computes", "doing", "hint"),
    [(True, "computing", COMPUTES), (False, "waiting in a call", WAITS)],
)
async def test_the_log_says_what_holds_the_loop(
    logs: Logs, computes: bool, doing: str, hint: str
) -> None:
    """The line tells computing from a blocking call, and says what to do instead."""

    def compute() -> None:
        until = time.thread_time() + 20
        while not logs.held.is_set() and time.thread_time() < until:
            sum(range(1000))

    async with open_plugins(Hog, stalls=StallSettings(warn=0.1, error=20)) as runtime:
        await held(runtime, compute if computes else told(logs.held))
    (line,) = logs.of("the event loop is held")
    assert (line["doing"], line["hint"]) == (doing, hint)
    assert "trio.to_thread.run_sync" in line["hint"]


RUNS_ASYNCIO = """
import asyncio, json, threading, structlog, trio
from trivet import BackgroundPlugin, StallSettings
from trivet.testing import open_plugins

held, done = threading.Event(), trio.Event()

def note(logger, method, line):
    if line["event"] == "the event loop is held":
        print(json.dumps({key: line[key] for key in ("plugin", "doing", "hint")}))
        held.set()
    raise structlog.DropEvent

async def wait():
    while not held.is_set():
        await asyncio.sleep(0.001)

class Hog(BackgroundPlugin):
    async def run(self):
        asyncio.run(wait())
        done.set()

async def main():
    async with open_plugins(Hog, stalls=StallSettings(warn=0.05, error=20)):
        with trio.fail_after(60):
            await done.wait()

structlog.configure(processors=[note])
trio.run(main)
"""


@pytest.mark.process
def test_asyncio_run_is_named() -> None:
    """A stall by `asyncio.run()` is reported with the right class to derive from.

    In a process of its own: where trio-asyncio is imported, the call fails at once.
    """
    command = [sys.executable, "-c", RUNS_ASYNCIO]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = json.loads(said)
    assert (line["plugin"], line["doing"]) == ("hog", "running an asyncio loop")
    assert "AsyncioPlugin" in line["hint"]


class SlowStart(BackgroundPlugin):
    """A plugin that holds the loop in `initialize`, and again in `run`."""

    start: float = 0.0
    work: float = 0.0

    async def initialize(self) -> None:
        self.begin, self.done = trio.Event(), trio.Event()
        time.sleep(self.start)  # noqa: ASYNC251 - that is the point

    async def run(self) -> None:
        await self.begin.wait()
        time.sleep(self.work)  # noqa: ASYNC251 - that is the point
        self.done.set()


@pytest.mark.parametrize(
    ("start", "work", "stalls"), [(0.2, 0.0, 0), (0.0, 0.2, 1), (0.2, 0.2, 1), (1.5, 0.0, 1)]
)
async def test_a_start_has_a_limit_of_its_own(
    logs: Logs, start: float, work: float, stalls: int
) -> None:
    """A plugin may hold the loop for a second while it starts; `run` has the usual limit."""
    table = {"slow_start": {"start": start, "work": work}}
    async with open_plugins(SlowStart, stalls=StallSettings(), settings=table) as runtime:
        slow = runtime.get(SlowStart)
        take_sample(runtime.meter)
        slow.begin.set()
        await slow.done.wait()
        await trio.lowlevel.checkpoint()
        assert runtime.usage()["slow_start"].stalls == stalls
    told = logs.of("the event loop is held") + logs.of("the event loop was held")
    assert bool(told) == bool(stalls)
    assert not [line for line in told if line["log_level"] == "error" and start > work]


async def test_the_stack_is_the_authors(logs: Logs) -> None:
    """The stack begins at the author's first line; a library's calls beneath are shortened."""

    def deep() -> object:
        return json.loads("1", cls=Slow)

    class Slow(json.JSONDecoder):
        def decode(self, s: str, _w: object = None) -> Any:
            return copy.deepcopy(Copied())

    class Copied:
        def __deepcopy__(self, memo: object) -> bool:
            return logs.held.wait(20)

    async with open_plugins(Hog, stalls=QUICK) as runtime:
        await held(runtime, deep)
    stack = logs.of("the event loop is held")[0]["stack"]
    assert stack.splitlines()[0].strip().startswith(f'File "{__file__}"')
    for library in ("/trio/", "/trivet/", "_supervision"):
        assert library not in stack
    assert "logs.held.wait(20)" in stack
    assert "copy.deepcopy" in stack


def test_the_lines_of_an_installed_plugin_are_the_authors() -> None:
    """An installed plugin is known by its module; without it, the library's line is shown."""
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    lines = lines_of(caught.value)
    assert Authors().place(lines[1:]).startswith(json.decoder.__file__)
    assert Authors().place(lines).startswith(f"{__file__}:")
    assert Authors("json").place(lines).startswith(json.decoder.__file__)
