"""Ctrl-C in a program that embeds Trivet: it ends the program, and breaks nothing of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from trivet import AsyncioPlugin, Event, EventPlugin, Runtime, Settings
from trivet._delivery._bounded import BoundedInbox
from trivet._on_asyncio import _bridge
from trivet._on_asyncio._bridge import open_bridge
from trivet._on_asyncio._crossings import CallOnAsyncio
from trivet._program._loader import load
from trivet._runtime import running

T = TypeVar("T")
protected = trio.lowlevel.currently_ki_protected


class Ping(Event):
    number: int = 0


class Noted(EventPlugin[Ping]):
    """Notes whether Ctrl-C would reach its code."""

    async def initialize(self) -> None:
        self.said: list[bool] = []

    def wants(self, event: Ping) -> bool:
        self.said.append(protected())
        return True

    async def handle_event(self, event: Ping) -> None:
        self.said.append(protected())


class Plain(EventPlugin[Ping]):
    """One of those for which the shortest way is taken."""

    async def initialize(self) -> None:
        self.said: list[bool] = []

    async def handle_event(self, event: Ping) -> None:
        self.said.append(protected())


class Elsewhere(AsyncioPlugin, EventPlugin[Ping]):
    """On asyncio."""

    async def initialize(self) -> None:
        self.said: list[bool] = []

    async def handle_event(self, event: Ping) -> None:
        self.said.append(protected())


class Watching(deque[T]):
    """A queue that notes whether its owner is protected while it changes."""

    def __init__(self, said: list[bool], then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.said = said
        self.then = then

    def append(self, item: T) -> None:
        super().append(item)
        self.said.append(protected())
        self.then()

    def popleft(self) -> T:
        self.said.append(protected())
        return super().popleft()


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """A shell has what it starts in the background ignore Ctrl-C, the tests too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def inbox_of(plugin: EventPlugin[Any]) -> BoundedInbox:
    """The plugin's inbox, with what is inside."""
    inbox = plugin.inbox
    assert isinstance(inbox, BoundedInbox)
    return inbox


@pytest.mark.parametrize("kind", [Noted, Plain, Elsewhere])
def test_ctrl_c_reaches_a_handler_and_not_its_caller(kind: type[EventPlugin[Any]]) -> None:
    """Ctrl-C is raised in a handler, and waits while the inbox is between two steps."""
    ours: list[bool] = []

    async def main() -> list[bool]:
        runtime = Runtime(load(Settings(), plugins=[kind]))
        plugin = runtime.get(kind)
        inbox = inbox_of(plugin)
        inbox.fast_path.ready = vars(inbox)["_queue"].ready = Watching(ours)
        async with running(runtime):
            for number in range(3):
                await runtime.publish(Ping(number), wait=number == 2)
            said: list[bool] = vars(plugin)["said"]
            return said

    assert set(trio.run(main)) == {False}
    assert set(ours) <= {True}


@pytest.mark.parametrize("kind", [Noted, Plain, Elsewhere])
def test_ctrl_c_while_a_reader_goes_to_sleep(kind: type[EventPlugin[Any]]) -> None:
    """Ctrl-C while a reader parks ends the program, and the reader's events are counted."""
    armed: list[Callable[[], None]] = []
    ended: list[int] = []

    async def main() -> None:
        runtime = Runtime(load(Settings(), plugins=[kind]))
        inbox = inbox_of(runtime.get(kind))
        parked = Watching[Any]([], lambda: armed.pop()() if armed else None)
        inbox.fast_path.parked = inbox.fast_path.readers.parked = parked
        async with running(runtime):
            await runtime.publish(Ping(), wait=True)
            armed.append(partial(os.kill, os.getpid(), signal.SIGINT))
            try:
                await runtime.publish(Ping(1), wait=True)
                await trio.sleep(10)
            finally:
                ended.append(inbox.statistics().handled)

    with capture_logs() as logs, pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert not armed
    assert ended == [2]
    assert [line["handled"] for line in logs if line["event"] == "plugin ended"] == [2]


def unexpected(failure: BaseException) -> None:
    """Stand in for a plugin's host; no task of asyncio's fails here."""
    raise failure


def interrupt() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


class Interrupted(CallOnAsyncio[Any]):
    """A crossing during which Ctrl-C comes, at the moment when an attribute is set."""

    moment = ""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if value is True and name == self.moment:
            type(self).moment = ""
            interrupt()


@pytest.mark.parametrize("moment", ["_is_waited_for", "_is_over"])
def test_ctrl_c_during_a_crossing(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C on either side of a crossing ends the program, and the call ends before its waiter."""
    monkeypatch.setattr(Interrupted, "moment", moment)
    monkeypatch.setattr(_bridge, "CallOnAsyncio", Interrupted)
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(0.001)
        finally:
            ended.append("call")

    async def main() -> None:
        async with open_bridge(structlog.get_logger(), unexpected) as bridge:
            try:
                await bridge.call(work)
            finally:
                ended.append("waiter")
            await trio.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert ended == ["call", "waiter"]
    assert Interrupted.moment == ""


class Observed:
    """A task of asyncio's, at whose callbacks Ctrl-C comes."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.done = task.done
        self.remove_done_callback = task.remove_done_callback
        self._task = task

    def add_done_callback(self, callback: Callable[[asyncio.Task[Any]], object]) -> None:
        self._task.add_done_callback(callback)
        interrupt()


def test_ctrl_c_before_a_wait_for_a_task_of_asyncio() -> None:
    """Ctrl-C before the wait for an asyncio task ends the program, and nothing else fails."""

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(asyncio.sleep(0.001))

    async def main() -> None:
        async with open_bridge(structlog.get_logger(), unexpected) as bridge:
            task = await bridge.call(begin)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    _bridge._until_done,  # pyright: ignore[reportPrivateUsage]
                    cast("asyncio.Task[Any]", Observed(task)),
                )
                await trio.sleep(10)

    with pytest.RaisesGroup(KeyboardInterrupt, allow_unwrapped=True, flatten_subgroups=True):
        trio.run(main)
