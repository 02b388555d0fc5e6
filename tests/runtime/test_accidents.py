"""Accidents in a test: a crash, a cancellation anywhere, and what is left behind."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trivet import BackgroundPlugin, Event, EventPlugin, Fate, PermanentError, Runtime, Status
from trivet.testing import (
    CancellationError,
    LeakError,
    cancel_everywhere,
    crash,
    no_leaks,
    open_plugins,
)


class Order(Event):
    number: int = 0


class Careful(EventPlugin[Order]):
    """Does each order in two steps, and does not mind to begin again."""

    async def handle_event(self, event: Order) -> None:
        await trio.sleep(1)
        with trio.move_on_after(5):
            await trio.sleep(2)


class Forgetful(EventPlugin[Order]):
    """Takes a cancellation for a fault of the event."""

    async def handle_event(self, event: Order) -> None:
        await trio.sleep(1)
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            raise PermanentError("interrupted") from None  # noqa: ASYNC104 - the fault


class Litters(EventPlugin[Order]):
    """Leaves a socket open where it is interrupted."""

    opened: ClassVar[list[socket.socket]] = []

    async def handle_event(self, event: Order) -> None:
        opened = socket.socket()
        self.opened.append(opened)
        await trio.sleep(1)
        opened.close()


async def test_a_plugin_that_can_be_cancelled_anywhere(autojump_clock: MockClock) -> None:
    """Every checkpoint of the plugin is tried, for each of its events."""
    assert await cancel_everywhere(Careful, Order(1), Order(2)) == 4


IN_A_FILE = """
import trio
from trivet import Event, EventPlugin


class Greeted(Event):
    name: str


class Greeter(EventPlugin[Greeted]):
    async def handle_event(self, event: Greeted) -> None:
        await trio.sleep(1)
"""


async def test_a_plugin_in_a_file_is_cancelled_by_its_name(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its events are made in the program, which alone has their class."""
    (tmp_path / "greeter.py").write_text(IN_A_FILE)

    def greeted(runtime: Runtime) -> Event:
        return runtime.events["greeted"].example()

    assert await cancel_everywhere("greeter", greeted, directory=tmp_path) == 1


async def test_an_event_that_a_cancellation_costs_is_told(autojump_clock: MockClock) -> None:
    """The error names the checkpoint, the event and its fate."""
    with pytest.raises(CancellationError) as caught:
        await cancel_everywhere(Forgetful, Order(1))
    line = Forgetful.handle_event.__code__.co_firstlineno + 3
    for said in ("'forgetful'", f"{Path(__file__).name}:{line}", "'order' is failed"):
        assert said in str(caught.value)


async def test_what_a_cancellation_leaves_behind_is_told(autojump_clock: MockClock) -> None:
    """A socket that only the good end closes is found."""
    with pytest.raises(LeakError, match="socket"):
        await cancel_everywhere(Litters, Order(1))
    for opened in Litters.opened:
        opened.close()


async def test_an_event_that_fails_anyway_is_told(autojump_clock: MockClock) -> None:
    """A plugin that has a fault without any cancellation is no plugin to cancel."""

    class Fails(EventPlugin[Order]):
        async def handle_event(self, event: Order) -> None:
            raise PermanentError("never")

    with pytest.raises(CancellationError, match="without a cancellation: 'order' is failed"):
        await cancel_everywhere(Fails, Order(1))


class ClosesBadly(Careful):
    """Cannot be closed while it has an order in hand."""

    _is_busy: bool = False

    async def handle_event(self, event: Order) -> None:
        self._is_busy = True
        await trio.sleep(1)
        self._is_busy = False

    async def close(self) -> None:
        if self._is_busy:
            self._is_busy = False
            raise OSError("in use")


async def test_a_lifetime_that_does_not_close_is_told(autojump_clock: MockClock) -> None:
    """The lifetime that was cancelled counts, and not only the one after it."""
    with pytest.raises(CancellationError, match=r"did not close: OSError\('in use'\)"):
        await cancel_everywhere(ClosesBadly, Order(1))


class Runs(BackgroundPlugin):
    pass


async def test_a_crash_begins_another_lifetime(autojump_clock: MockClock) -> None:
    """The test goes on when the plugin is up again, by its name or its class."""
    async with open_plugins(Runs) as runtime:
        await crash(runtime, Runs)
        assert (runtime.hosts["runs"].restarts, runtime.hosts["runs"].status) == (1, Status.RUNNING)
        await crash(runtime, "runs", KeyError("lost"))
        assert isinstance(runtime.hosts["runs"].failure, KeyError)


async def test_an_event_in_flight_survives_a_crash(autojump_clock: MockClock) -> None:
    """The event that the crash has interrupted is delivered again."""
    async with open_plugins(Careful) as runtime, trio.open_nursery() as nursery:
        outcomes = list[Fate | None]()

        async def publish() -> None:
            outcomes.append((await runtime.publish(Order(), wait=True)).worst)

        nursery.start_soon(publish)
        await trio.sleep(0.5)
        await crash(runtime, Careful)
    assert outcomes == [Fate.HANDLED]


async def test_threads_and_files_that_are_left_are_named(tmp_path: Path) -> None:
    """A thread by its name, a file by its path."""
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="poller")
    with ExitStack() as left:
        with pytest.raises(LeakError) as caught, no_leaks():  # noqa: PT012 - both are left
            thread.start()
            left.enter_context((tmp_path / "left.txt").open("w"))
    assert "thread 'poller'" in str(caught.value)
    assert "left.txt" in str(caught.value)
    gate.set()
    thread.join()


class Leaves(BackgroundPlugin):
    """Starts a task in somebody else's nursery."""

    nurseries: ClassVar[list[trio.Nursery]] = []

    async def run(self) -> None:
        self.nurseries.pop().start_soon(trio.sleep_forever)


async def test_a_task_in_a_foreign_nursery_is_named() -> None:
    """A task that outlives its plugin is told with the plugin, and where it stands."""
    said = r"plugin 'leaves', task trio\.sleep_forever"
    async with trio.open_nursery() as nursery:
        Leaves.nurseries.append(nursery)
        with pytest.raises(LeakError, match=said), no_leaks():
            async with open_plugins(Leaves):
                await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_tidy_program_leaves_nothing(autojump_clock: MockClock) -> None:
    """A program's own tasks, threads and files are gone when its block is left."""
    with no_leaks():
        async with open_plugins(
            Careful, settings={"careful": {"delivery": {"durable": True}}}
        ) as it:
            assert (await it.publish(Order(), wait=True)).worst is Fate.HANDLED
