"""An event that a durable inbox can never hold is refused at once, for good, with the reason."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from msgspec.structs import force_setattr
from trio.testing import MockClock

from trivet import (
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Plugin,
    Runtime,
    Settings,
    StallSettings,
    StoreSettings,
    open_runtime,
)
from trivet._store import _journal


class Measured(Event):
    number: int = 0
    score: float | None = None
    more: Any = None


class Archive(EventPlugin[Measured]):
    """Keeps on disk what it gets, for ever trying the first."""

    delivery = DeliverySettings(durable=True, block_for=60.0)

    async def initialize(self) -> None:
        self.got: list[Measured] = []

    async def handle_event(self, event: Measured) -> None:
        self.got.append(event)


class Screen(EventPlugin[Measured]):
    """In memory."""

    async def initialize(self) -> None:
        self.got: list[Measured] = []

    async def handle_event(self, event: Measured) -> None:
        self.got.append(event)


@asynccontextmanager
async def program(path: Path, *plugins: type[Plugin], **store: Any) -> AsyncGenerator[Runtime]:
    """A program whose store is a file."""
    settings = Settings(
        store=StoreSettings(path=path / "store.sqlite3", **store),
        stalls=StallSettings(enabled=False),
    )
    async with open_runtime(settings, plugins=plugins) as runtime:
        yield runtime


@pytest.mark.parametrize(
    ("event", "place"),
    [
        (Measured(score=float("nan")), "$.score"),
        (Measured(more={"score": float("inf")}), "$.more.score"),
        (Measured(more=(1, 2)), "$.more"),
        (Measured(more="\ud800"), "$.more"),
        (Measured(number="seven"), "$.number"),  # type: ignore[arg-type]
        (Measured(number=None), "$.number"),  # type: ignore[arg-type]
    ],
)
async def test_an_event_that_would_not_come_back_is_refused(
    tmp_path: Path, event: Measured, place: str
) -> None:
    """A value that would come back changed is refused with its place, by the durable inbox
    alone."""
    async with program(tmp_path, Archive, Screen) as runtime:
        outcome = await runtime.publish(event, wait=True)
        assert outcome.fates == {"archive": Fate.UNACCEPTABLE, "screen": Fate.HANDLED}
        assert outcome.worst is Fate.UNACCEPTABLE
        assert outcome.refusals["archive"].path == place
        assert not outcome.refusals["archive"].is_too_large
        assert (await runtime.publish(Measured(2), wait=True)).worst is Fate.HANDLED
        counts = runtime.statistics()["archive"]
        assert (counts.accepted, counts.handled, counts.unacceptable) == (1, 1, 1)


async def test_an_event_larger_than_the_store_is_not_waited_for(tmp_path: Path) -> None:
    """An event larger than the store is refused for good, and its neighbours are stored."""
    async with program(tmp_path, Archive, max_bytes=2000) as runtime:
        large = Measured(1, more="x" * 2000)
        events = [Delivery.of(event) for event in (Measured(0), large, Measured(2))]
        outcomes = await runtime.publish_many(events, wait=True)
        assert [outcome.worst for outcome in outcomes] == [
            Fate.HANDLED,
            Fate.UNACCEPTABLE,
            Fate.HANDLED,
        ]
        assert [outcome.refusals for outcome in outcomes[::2]] == [{}, {}]
        assert outcomes[1].refusals["archive"].is_too_large
        assert [event.number for event in runtime.get(Archive).got] == [0, 2]


async def test_an_event_larger_than_a_row_of_sqlite_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event larger than a row of SQLite is refused, and costs no neighbour in its
    transaction."""
    monkeypatch.setattr(_journal, "MARGIN", 1000)

    class Narrow(sqlite3.Connection):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5000)

    narrow = partial(_journal.Journal.open, factory=Narrow)
    monkeypatch.setattr(_journal.Journal, "open", staticmethod(narrow))
    async with program(tmp_path, Archive) as runtime:
        events = [Measured(0), Measured(1, more="x" * 5000), Measured(2)]
        outcomes = await runtime.publish_many([Delivery.of(event) for event in events], wait=True)
        assert [outcome.worst for outcome in outcomes] == [
            Fate.HANDLED,
            Fate.UNACCEPTABLE,
            Fate.HANDLED,
        ]
        assert outcomes[1].refusals["archive"].is_too_large


@pytest.mark.parametrize("envelope", [{"id": "\ud800"}, {"source": "\ud800"}, {"key": "\ud800"}])
async def test_an_envelope_that_cannot_be_written_is_refused(
    tmp_path: Path, envelope: dict[str, Any]
) -> None:
    """An envelope has to come back as it is, too."""
    async with program(tmp_path, Archive) as runtime:
        assert (await runtime.publish(Measured(1), **envelope)).worst is Fate.UNACCEPTABLE
        assert (await runtime.publish(Measured(2), wait=True)).worst is Fate.HANDLED


@pytest.mark.parametrize("deadline", [float("nan"), float("-inf")])
async def test_a_deadline_is_a_moment(autojump_clock: MockClock, deadline: float) -> None:
    """A deadline that is no moment is an error at the publisher."""
    with pytest.raises(ValueError, match="deadline"):
        Delivery.of(Measured(1), deadline=deadline)


async def test_a_mistyped_event_is_refused(tmp_path: Path) -> None:
    """A mistyped event, which its type's checks would not let in at the next start, is refused."""

    class Positive(Event):
        number: int = attrs.field()

        def __attrs_post_init__(self) -> None:
            assert not isinstance(self.number, str)

    class Counter(EventPlugin[Positive]):
        delivery = DeliverySettings(durable=True)

        async def handle_event(self, event: Positive) -> None:
            """Do nothing."""

    async with program(tmp_path, Counter) as runtime:
        event = Positive(1)
        force_setattr(cast("Any", event), "number", "one")
        outcome = await runtime.publish(event)
        assert outcome.worst is Fate.UNACCEPTABLE
        assert outcome.refusals["counter"].path == "$.number"
