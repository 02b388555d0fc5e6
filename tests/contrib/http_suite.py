"""The promises that every sink over HTTP makes, as tests that each sink inherits.

A connector's tests are a `Receiver`, a real server in a process of its own, and a class that
derives from `HttpContract`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from trivet import Event, Fate, Runtime, StoreSettings
from trivet._store._dead_letters import DeadLetters
from trivet._store._packing import unpack_history
from trivet.testing import client, open_plugins
from trivet_contrib._http._sink import HttpSink

from .suite import Peer, Proxy, Table, becomes, readiness, text_of, until_handled

SOON = {"retry_initial": 0.02, "retry_max": 0.1, "block_for": 30}
BATCHES = pytest.mark.parametrize("size", [1, 10], ids=["one by one", "in batches"])


class Receiver(Peer):
    """The server that gets the events."""

    secret: ClassVar[str]
    """The secret in the settings, which no log may show."""

    @abstractmethod
    async def allow(self, *, allowed: bool) -> None:
        """Take events from a sink with this secret, or from none."""

    @abstractmethod
    async def taken(self) -> list[int]:
        """The numbers of the taken events, in order."""


class HttpContract:
    """The tests of a sink: derive `Test…` from it, with the plugin and a fixture `receiver`."""

    pytestmark: ClassVar = [
        # After a lost connection httpx leaves the body's iterator to the garbage collector.
        pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning"),
        pytest.mark.usefixtures("own_garbage"),
    ]

    sink: ClassVar[type[HttpSink[Any]]]
    credentials: ClassVar[str]
    """The settings that hold the secret, as a message names them."""
    chosen: ClassVar[Table]
    """The delivery section, without the events that requests to the program make."""

    def event(self, number: int) -> Event:
        """An event that the receiver takes."""
        raise NotImplementedError

    def poison(self, number: int) -> Event:
        """An event that the receiver refuses."""
        raise NotImplementedError

    async def publish_unsayable(self, runtime: Runtime) -> None:
        """Publish an event that no request can hold."""
        raise NotImplementedError

    def sending(
        self,
        receiver: Receiver,
        *,
        path: Path | None = None,
        size: int = 10,
        concurrency: int = 1,
        table: Table | None = None,
    ) -> AbstractAsyncContextManager[Runtime]:
        """A program with the sink, durable if there is a path."""
        sizes: Table = {"batch_size": size, "batch_age": 0.02, "overflow": "block"}
        sizes["concurrency"] = concurrency
        again = {"retry": True} if path is None else {"durable": True}
        sections = {
            "delivery": {**SOON, **sizes, **again, **self.chosen},
            "supervision": {"critical": True},  # Only a critical plugin counts for `/readyz`.
        }
        return open_plugins(
            self.sink,
            event_types=[type(self.event(0))],
            settings={self.sink.name: {**(table or receiver.settings()), **sections}},
            store=StoreSettings(path=path or Path(":memory:")),
        )

    async def publish(self, runtime: Runtime, numbers: Iterable[int]) -> None:
        """Publish events with these numbers."""
        for number in numbers:
            outcome = await runtime.publish(self.event(number))
            assert outcome.fates == {self.sink.name: Fate.QUEUED}

    async def handled(self, runtime: Runtime, count: int) -> None:
        """Wait until `count` events are done."""
        await until_handled(runtime, self.sink.name, count)

    @BATCHES
    async def test_events_arrive(self, receiver: Receiver, size: int) -> None:
        """Each event arrives once, and the stop waits for the last one."""
        async with self.sending(receiver, size=size) as runtime:
            await self.publish(runtime, range(25))
        assert await receiver.taken() == list(range(25))

    async def test_several_requests_at_once(self, receiver: Receiver) -> None:
        """With several requests side by side each event still arrives once, in any order, even if
        the receiver is unavailable for a while."""
        async with self.sending(receiver, size=3, concurrency=4) as runtime:
            await receiver.kill()
            await self.publish(runtime, range(100))
            await becomes(503, lambda: readiness(runtime))
            await receiver.start()
            await self.handled(runtime, 100)
        assert sorted(await receiver.taken()) == list(range(100))

    async def test_events_wait_for_their_receiver(self, receiver: Receiver) -> None:
        """Events stay in the inbox while the receiver is unavailable, and are sent after its
        return."""
        async with self.sending(receiver) as runtime:
            await self.publish(runtime, [0])
            await self.handled(runtime, 1)
            await receiver.kill()
            await self.publish(runtime, range(1, 60))
            await becomes(503, lambda: readiness(runtime))
            statistics = runtime.statistics()[self.sink.name]
            assert statistics.queued + statistics.in_flight + statistics.backing_off == 59
            await receiver.start()
            await becomes(200, lambda: readiness(runtime))
            await self.handled(runtime, 60)
        assert await receiver.taken() == list(range(60))

    async def test_a_receiver_may_come_later(self, receiver: Receiver, tmp_path: Path) -> None:
        """The program starts without the receiver, and a stop keeps the events for the next
        program."""
        path = tmp_path / "store.sqlite3"
        await receiver.kill()
        async with self.sending(receiver, path=path) as runtime:
            await self.publish(runtime, range(20))
            await becomes(503, lambda: readiness(runtime))
            runtime.hurry()
        await receiver.start()
        async with self.sending(receiver, path=path) as runtime:
            await self.handled(runtime, 20)
        assert await receiver.taken() == list(range(20))

    @BATCHES
    async def test_a_poison_event_costs_no_other(
        self, receiver: Receiver, tmp_path: Path, size: int
    ) -> None:
        """A refused event is tried once and becomes a dead letter with the receiver's reason, and
        the program stays ready."""
        path = tmp_path / "store.sqlite3"
        async with self.sending(receiver, path=path, size=size) as runtime:
            await self.publish(runtime, [0])
            await self.handled(runtime, 1)
            await self.publish(runtime, range(1, 8))
            await runtime.publish(self.poison(8))
            await self.publish(runtime, range(9, 20))
            await self.handled(runtime, 19)
            assert await readiness(runtime) == 200
        assert await receiver.taken() == [number for number in range(20) if number != 8]
        with DeadLetters(path) as letters:
            (letter,) = letters.list()
        history = unpack_history(letter.history)
        assert history.attempts == 1
        assert "answered 400: " in history.failures[-1].error

    @BATCHES
    async def test_an_event_that_cannot_be_said(self, receiver: Receiver, size: int) -> None:
        """An event fails alone, whatever its encoder raises, and the others are sent once."""
        async with self.sending(receiver, size=size) as runtime:
            await self.publish(runtime, range(4))
            await self.publish_unsayable(runtime)
            await self.publish(runtime, range(4, 8))
            await self.handled(runtime, 8)
            statistics = runtime.statistics()[self.sink.name]
            assert (statistics.failed, statistics.retried) == (1, 0)
            assert await readiness(runtime) == 200
        assert await receiver.taken() == list(range(8))

    @BATCHES
    async def test_an_event_for_the_end_of_all_time(self, receiver: Receiver, size: int) -> None:
        """A deadline beyond the calendar costs no event, not even its own."""
        async with self.sending(receiver, size=size) as runtime:
            await self.publish(runtime, [0])
            await runtime.publish(self.event(1), deadline=1e15)
            await self.publish(runtime, [2])
            await self.handled(runtime, 3)
        assert await receiver.taken() == [0, 1, 2]

    @BATCHES
    async def test_a_receiver_that_is_killed(
        self, receiver: Receiver, tmp_path: Path, size: int
    ) -> None:
        """A receiver that is killed again and again in the middle of a stream costs no event."""
        async with self.sending(receiver, path=tmp_path / "store.sqlite3", size=size) as runtime:
            for first in range(0, 300, 100):
                await self.publish(runtime, range(first, first + 100))
                await self.handled(runtime, first + 10)
                await receiver.kill()
                await becomes(503, lambda: readiness(runtime))
                await receiver.start()
            await self.handled(runtime, 300)
        assert sorted(set(await receiver.taken())) == list(range(300))

    async def test_a_receiver_that_stands_still(self, receiver: Receiver) -> None:
        """A receiver that takes connections and answers nothing is asked again until it goes on."""
        async with self.sending(receiver, table=receiver.settings(timeout=0.3)) as runtime:
            await self.publish(runtime, range(10))
            await self.handled(runtime, 10)
            receiver.pause()
            await self.publish(runtime, range(10, 50))
            await becomes(503, lambda: readiness(runtime))
            receiver.resume()
            await self.handled(runtime, 50)
        assert sorted(set(await receiver.taken())) == list(range(50))

    async def test_connections_that_are_cut(self, receiver: Receiver) -> None:
        """Connections that are cut again and again in the middle of a stream lose no event."""
        async with Proxy(receiver.port).serving() as proxy:
            table = receiver.settings(url=f"http://127.0.0.1:{proxy.port}")
            async with self.sending(receiver, table=table, size=3) as runtime:
                cut = 0
                for first in range(0, 500, 50):
                    await self.publish(runtime, range(first, first + 50))
                    await self.handled(runtime, first + 5)
                    cut += proxy.cut()
                assert cut
                await self.handled(runtime, 500)
        assert sorted(set(await receiver.taken())) == list(range(500))

    async def test_credentials_that_are_revoked(self, receiver: Receiver) -> None:
        """Events wait while the credentials are revoked, and the status names the setting without
        the secret."""
        with capture_logs() as logs:
            async with self.sending(receiver) as runtime:
                await self.publish(runtime, [0])
                await self.handled(runtime, 1)
                await receiver.allow(allowed=False)
                await self.publish(runtime, range(1, 20))
                await becomes(503, lambda: readiness(runtime))
                trouble = runtime.hosts[self.sink.name].trouble
                shown = await (await client(runtime).get("/plugins")).get_data(as_text=True)
                shown += repr(runtime.get(self.sink))
                await receiver.allow(allowed=True)
                await self.handled(runtime, 20)
                await becomes(200, lambda: readiness(runtime))
        assert trouble is not None
        assert f"(see {self.credentials} of {self.sink.name!r})" in trouble
        assert receiver.secret not in text_of(logs) + trouble + shown
        assert await receiver.taken() == list(range(20))

    async def test_a_stop_loses_nothing(self, receiver: Receiver, tmp_path: Path) -> None:
        """The next program sends the events that a stop in the middle of the stream left."""
        path = tmp_path / "store.sqlite3"
        async with self.sending(receiver, path=path, size=2) as runtime:
            await self.publish(runtime, range(300))
            await self.handled(runtime, 10)
            runtime.hurry()
        done = runtime.statistics()[self.sink.name].handled
        assert done < 300
        async with self.sending(receiver, path=path) as runtime:
            await self.handled(runtime, 300 - done)
        assert sorted(set(await receiver.taken())) == list(range(300))
