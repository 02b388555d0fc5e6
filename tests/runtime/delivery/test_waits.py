"""A handler that waits for the end of an event that only it could handle is told at once."""

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    Batch,
    BatchPlugin,
    DeadlockError,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
)
from trivet._faults._containment import members
from trivet.testing import open_plugins


class Ping(Event):
    number: int = 0


class Pong(Event):
    number: int = 0


class Selfish(EventPlugin[Ping]):
    """Publishes what it listens to, and waits for it."""

    wait: bool = True
    many: bool = False

    async def initialize(self) -> None:
        self.got: list[int] = []

    async def handle_event(self, event: Ping) -> None:
        self.got.append(event.number)
        if event.number < 1:
            again = Ping(event.number + 1)
            if self.many:
                await self.app.publish_many([Delivery.of(again)], wait=self.wait)
            else:
                async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - in another task
                    nursery.start_soon(self._publish, again)

    async def _publish(self, event: Event) -> None:
        await self.app.publish(event, wait=self.wait)


@pytest.mark.parametrize("many", [False, True])
async def test_a_handler_that_waits_for_itself_fails_at_once(
    autojump_clock: MockClock, many: bool
) -> None:
    """A handler that waits for its own plugin fails at once, and the error says what to do."""
    with capture_logs() as logs:
        async with open_plugins(Selfish, settings={"selfish": {"many": many}}) as runtime:
            began = trio.current_time()
            assert (await runtime.publish(Ping(), wait=True)).worst is Fate.FAILED
            assert trio.current_time() == began
            assert runtime.get(Selfish).got == [0]
            assert runtime.statistics()["selfish"].accepted == 1
    (raised,) = [line["exc_info"] for line in logs if line["event"] == "event failed"]
    (failed,) = members(raised)
    assert isinstance(failed, DeadlockError)
    for word in ("'selfish'", "ping", "wait=False"):
        assert word in str(failed)


async def test_a_handler_that_does_not_wait_may_publish_to_itself(
    autojump_clock: MockClock,
) -> None:
    """A handler may publish to its own plugin, whose next event it is, without waiting."""
    async with open_plugins(Selfish, settings={"selfish": {"wait": False}}) as runtime:
        await runtime.publish(Ping(), wait=True)
        await trio.sleep(1)
        assert runtime.get(Selfish).got == [0, 1]


async def test_another_worker_may_handle_it(autojump_clock: MockClock) -> None:
    """With a concurrency of 2 a handler may wait for an event that its plugin handles."""
    settings = {"selfish": {"delivery": {"concurrency": 2}}}
    async with open_plugins(Selfish, settings=settings) as runtime:
        assert (await runtime.publish(Ping(), wait=True)).worst is Fate.HANDLED
        assert runtime.get(Selfish).got == [0, 1]


async def test_workers_that_all_wait_for_one_another(autojump_clock: MockClock) -> None:
    """The second of two handlers that wait is told, and the first goes on."""
    settings = {"selfish": {"delivery": {"concurrency": 2}}}
    async with open_plugins(Selfish, settings=settings) as runtime:
        both = [Delivery.of(Ping()), Delivery.of(Ping())]
        outcomes = await runtime.publish_many(both, wait=True)
        assert {outcome.worst for outcome in outcomes} == {Fate.HANDLED, Fate.FAILED}


async def test_an_event_of_the_same_key_is_waited_for(autojump_clock: MockClock) -> None:
    """A wait for an event of the key in flight is refused, however many workers there are."""

    class Keyed(EventPlugin[Pong]):
        delivery = DeliverySettings(concurrency=5, ordering_key="partitionkey")

        async def handle_event(self, event: Pong) -> None:
            if event.number < 2:
                key = "a" if event.number else "b"
                await self.app.publish(Pong(2), wait=True, key=key)

    async with open_plugins(Keyed) as runtime:
        assert (await runtime.publish(Pong(0), wait=True, key="a")).worst is Fate.HANDLED
        assert (await runtime.publish(Pong(1), wait=True, key="a")).worst is Fate.FAILED


class Left(EventPlugin[Ping]):
    """Waits for the right one."""

    async def handle_event(self, event: Ping) -> None:
        await self.app.publish(Pong(event.number), wait=True)


class Right(EventPlugin[Pong]):
    """Waits for the left one, unless the number is 7."""

    async def handle_event(self, event: Pong) -> None:
        if event.number != 7:
            await self.app.publish(Ping(event.number), wait=True)


async def test_a_circle_of_plugins(autojump_clock: MockClock) -> None:
    """The handler that would close a circle is told, with the names of the others."""
    with capture_logs() as logs:
        async with open_plugins(Left, Right) as runtime:
            assert (await runtime.publish(Ping(7), wait=True)).worst is Fate.HANDLED
            assert (await runtime.publish(Ping(1), wait=True)).worst is Fate.HANDLED
            assert runtime.statistics()["right"].failed == 1
    (failed,) = [line["exc_info"] for line in logs if line["event"] == "event failed"]
    assert isinstance(failed, DeadlockError)
    assert "'left', which waits for 'right'" in str(failed)


async def test_an_event_that_a_filter_leaves_out_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    """A handler may wait for an event that the filter of its own plugin leaves out."""

    class Choosy(Selfish):
        def wants(self, event: Ping) -> bool:
            return event.number < 1

    async with open_plugins(Choosy) as runtime:
        assert (await runtime.publish(Ping(), wait=True)).worst is Fate.HANDLED


async def test_a_batch_that_waits_for_itself(autojump_clock: MockClock) -> None:
    """A handler of a batch that waits for its own plugin fails as any handler does."""

    class Batches(BatchPlugin[Ping]):
        delivery = DeliverySettings(batch_size=2, batch_age=0.1)

        async def handle_batch(self, events: Batch[Ping]) -> None:
            if events[0].number == 0:
                await self.app.publish(Ping(1), wait=True)

    async with open_plugins(Batches) as runtime:
        assert (await runtime.publish(Ping(), wait=True)).worst is Fate.FAILED


async def test_a_task_beside_the_handler_may_wait(autojump_clock: MockClock) -> None:
    """A task beside the handler may wait for an event that its plugin handles next."""

    class Beside(EventPlugin[Ping]):
        async def initialize(self) -> None:
            self.nursery = await self.enter(trio.open_nursery())
            self.fates: list[Fate | None] = []

        async def _publish(self) -> None:
            self.fates.append((await self.app.publish(Ping(1), wait=True)).worst)

        async def handle_event(self, event: Ping) -> None:
            if event.number == 0:
                self.nursery.start_soon(self._publish)
                await trio.sleep(1)

    async with open_plugins(Beside) as runtime:
        await runtime.publish(Ping(), wait=True)
        await trio.sleep(1)
        assert runtime.get(Beside).fates == [Fate.HANDLED]


async def test_a_long_wait_is_told(autojump_clock: MockClock) -> None:
    """A publisher whose wait nobody can look through is named after a while, once."""

    class Own(EventPlugin[Ping]):
        async def run(self) -> None:
            async for _ in self.inbox:
                await self.app.publish(Ping(), wait=True)

    class Asking(BackgroundPlugin):
        async def run(self) -> None:
            await self.app.publish(Ping())
            await trio.sleep_forever()

    with capture_logs() as logs:
        async with open_plugins(Own, Asking):
            await trio.sleep(300)
    (told,) = [line for line in logs if line["event"] == "a publisher still waits"]
    assert (told["plugin"], told["waits_for"], told["event_type"]) == ("own", ["own"], "ping")
