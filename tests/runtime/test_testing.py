"""The kit for tests of plugins never lets a test wait long in real time."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    RetryAfter,
    UnknownEventError,
)
from trivet.testing import SlowRetryError, client, open_plugins, recorded


class Order(Event):
    number: int = 0


class Fails(EventPlugin[Order]):
    """Handles an event at the third attempt."""

    delivery = DeliverySettings(durable=True)
    wait: float = 0.0
    _attempts: int = 0

    async def handle_event(self, event: Order) -> None:
        self._attempts += 1
        if self._attempts < 3:
            raise RetryAfter(self.wait, "no rows") if self.wait else KeyError("rows")


@pytest.mark.parametrize("durable", [True, False])
async def test_retry_in_real_time(durable: bool) -> None:
    """A late retry is an error at once, with the plugin, the event, the exception, the remedy."""
    table = {"fails": {"delivery": {"durable": durable, "retry": True}}}
    with trio.fail_after(60), pytest.raises(SlowRetryError) as caught:
        async with open_plugins(Fails, settings=table) as runtime:
            await runtime.publish(Order(), wait=True)
    said = str(caught.value)
    for fact in ("'fails'", "'order'", "KeyError: 'rows'", "`autojump_clock`", "5 s"):
        assert fact in said
    assert isinstance(caught.value.__cause__, KeyError)


async def test_retry_after() -> None:
    """A long wait that `RetryAfter` asks for is an error too."""
    table: dict[str, Any] = {"fails": {"wait": 60.0, "delivery": {"retry_initial": 0.0}}}
    with pytest.raises(SlowRetryError, match=r"no rows.* in 60 s"):
        async with open_plugins(Fails, settings=table) as runtime:
            await runtime.publish(Order(), wait=True)


async def test_a_short_retry_is_waited_for() -> None:
    """A retry within a second, or within the test's `patience`, is no error."""
    table = {"fails": {"delivery": {"retry_initial": 0.01}}}
    async with open_plugins(Fails, settings=table) as runtime:
        assert (await runtime.publish(Order(), wait=True)).worst is Fate.HANDLED
    patient = {"fails": {"wait": 0.01}}
    async with open_plugins(Fails, settings=patient, patience=60) as runtime:
        outcome = await runtime.publish(Order())
        assert outcome.accepted


async def test_autojump_clock(
    autojump_clock: MockClock,
) -> None:
    """Under the autojump clock every retry is waited for."""
    table: dict[str, Any] = {"fails": {"wait": 120.0, "delivery": {"retry_for": 0}}}
    async with open_plugins(Fails, settings=table) as runtime:
        assert (await runtime.publish(Order(), wait=True)).worst is Fate.HANDLED
        assert trio.current_time() >= 240


COUNTER = """
from trivet import Event, EventPlugin


class Counted(Event):
    number: int


class Counter(EventPlugin[Counted]):
    total: int = 0

    async def handle_event(self, event: Counted) -> None:
        self.total += event.number
"""


async def test_an_event_of_a_plugin_in_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program has the event's class by its name; an imported copy is refused, and the error
    names the two modules and both remedies."""
    file = tmp_path / "counter_file.py"
    file.write_text(COUNTER, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    copy: Any = import_module(file.stem).Counted
    async with open_plugins("counter_file", directory=tmp_path) as runtime:
        counted: Any = runtime.events["counted"]
        assert (await runtime.publish(counted(2), wait=True)).worst is Fate.HANDLED
        with pytest.raises(UnknownEventError) as caught:
            await runtime.publish(copy(1))
        said = str(caught.value)
        assert "loaded twice, as 'trivet_plugins.counter_file' and as 'counter_file'" in said
        assert "`runtime.events['counted']`" in said
        assert "`POST /events/counted`" in said
        answer = await client(runtime).post("/events/counted?wait=true", json={"number": 1})
        assert (await answer.get_json())["fates"] == {"counter": "handled"}


class Refuses(EventPlugin[Order]):
    async def handle_event(self, event: Order) -> None:
        raise KeyError(event.number)


class RefusesToo(Refuses):
    pass


async def test_the_error_of_a_handler_comes_out_of_publish() -> None:
    """`raise_errors` raises the handler's own exception, with a note of whose it is."""
    async with open_plugins(Refuses, raise_errors=True) as runtime:
        with pytest.raises(KeyError) as caught:
            await runtime.publish(Order(7), wait=True)
        assert caught.value.args == (7,)
        assert caught.value.__notes__ == ["plugin 'refuses' raised this while it handled 'order'"]
        assert (await runtime.publish(Order(8))).accepted


async def test_the_errors_of_several_handlers_come_as_a_group() -> None:
    """All exceptions are raised if several plugins fail."""
    async with open_plugins(Refuses, RefusesToo, raise_errors=True) as runtime:
        with pytest.RaisesGroup(KeyError, KeyError):
            await runtime.publish(Order(7), wait=True)


class Asks(BackgroundPlugin):
    """Publishes an event, and waits for its end."""

    fate: Fate | None = None
    _asked: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        self.fate = (await self.app.publish(Order(), wait=True)).worst
        self._asked.set()

    async def told(self) -> Fate | None:
        await self._asked.wait()
        return self.fate


async def test_a_plugin_that_publishes_gets_its_outcome_all_the_same() -> None:
    """Only the test's own calls raise: plugins and requests get the outcome as in a program."""
    async with open_plugins(Refuses, Asks, raise_errors=True) as runtime:
        assert await runtime.get(Asks).told() is Fate.FAILED
        answer = await client(runtime).post("/events/order?wait=true", json={})
        assert (await answer.get_json())["fates"] == {"refuses": "failed"}


async def test_what_is_published_is_recorded() -> None:
    """The record has every event of the block in order, whoever published it and how."""
    async with open_plugins(Refuses) as runtime:
        await runtime.publish(Order(1))
        with recorded(runtime) as published:
            await runtime.publish(Order(2))
            await runtime.publish(Order(3), wait=True, id="o-3")
            await client(runtime).post("/events/order", json={"number": 4})
        await runtime.publish(Order(5), wait=True)
    assert published.events == [Order(2), Order(3), Order(4)]
    assert published.of(Order) == published.events
    assert published.deliveries[1].id == "o-3"
