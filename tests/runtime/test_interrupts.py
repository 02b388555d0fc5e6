"""Ctrl-C in a program that embeds Trivet: it ends the program, and breaks nothing of it."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pytest
import trio
from structlog.testing import capture_logs

from trivet import AsyncioPlugin, Event, EventPlugin, Runtime, Settings
from trivet._delivery._bounded import BoundedInbox
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
def test_ctrl_c_reaches_the_author_and_not_what_calls_him(kind: type[EventPlugin[Any]]) -> None:
    """Between two steps of an inbox it waits; a handler that never ends it ends."""
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
    """The reader stops as usual, its events are counted, and the interrupt goes on."""
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
