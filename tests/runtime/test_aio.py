"""A program inside a service on asyncio: its calls, its HTTP side, and its end with the service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from structlog.testing import capture_logs

from trivet import (
    BackgroundPlugin,
    CriticalPluginError,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    ProgramEndedError,
    Settings,
    ShutdownSettings,
    StartError,
    StoreSettings,
    SupervisionSettings,
    UnknownEventError,
    route,
)
from trivet.aio import EmbeddedRuntime, open_runtime


class Order(Event):
    number: int = 0


class Tally(EventPlugin[Order]):
    total: int = 0
    _closed: trio.Event = attrs.field(factory=trio.Event)

    async def handle_event(self, event: Order) -> None:
        self.total += event.number

    async def so_far(self) -> int:
        return self.total

    @route("/tally")
    async def tally(self) -> dict[str, int]:
        return {"total": self.total}


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on asyncio; the program's thread has to be gone afterwards."""

    async def within_a_minute() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(within_a_minute())
    assert not [each for each in threading.enumerate() if each.name == "trivet program"]


def test_events_go_to_the_plugins() -> None:
    """`publish` has the outcome, and `call` a plugin's own method's result."""

    async def test() -> None:
        async with open_runtime(plugins=[Tally]) as runtime:
            outcome = await runtime.publish(Order(1), wait=True)
            assert outcome.fates == {"tally": Fate.HANDLED}
            many = await runtime.publish_many([Delivery.of(Order(2)), Delivery.of(Order(3))])
            assert [each.worst for each in many] == [Fate.QUEUED, Fate.QUEUED]
            await asyncio.gather(*(runtime.publish(Order(1), wait=True) for _ in range(100)))
            assert await runtime.call(runtime.runtime.get(Tally).so_far) == 106

    run(test)


def test_an_error_comes_out_of_the_call() -> None:
    """An error that is raised on Trio is raised on asyncio."""

    class Unknown(Event):
        pass

    async def test() -> None:
        async with open_runtime(plugins=[Tally]) as runtime:
            with pytest.raises(UnknownEventError):
                await runtime.publish(Unknown())

    run(test)


tenant: ContextVar[str] = ContextVar("tenant", default="none")


def test_a_call_has_the_callers_context() -> None:
    """Context variables of the request are there on the other side."""

    async def read() -> str:
        return tenant.get()

    async def test() -> None:
        tenant.set("acme")
        async with open_runtime(plugins=[Tally]) as runtime:
            assert await runtime.call(read) == "acme"

    run(test)


def test_a_cancelled_call_is_cancelled_on_trio() -> None:
    """The caller's cancellation reaches the call, whose end is waited for."""
    ended = list[str]()

    async def test() -> None:
        async with open_runtime(plugins=[Tally]) as runtime:
            begun = asyncio.Event()
            loop = asyncio.get_running_loop()

            async def wait() -> None:
                loop.call_soon_threadsafe(begun.set)
                try:
                    await trio.sleep_forever()
                finally:
                    ended.append("cancelled")

            task = asyncio.create_task(runtime.call(wait))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended == ["cancelled"]

    run(test)


class Slow(EventPlugin[Order]):
    delivery = DeliverySettings(buffer=1, block_for=3600.0)

    async def handle_event(self, event: Order) -> None:
        await trio.sleep_forever()


def test_a_plugin_that_holds_its_loop_does_not_hold_a_caller() -> None:
    """A time limit of the caller's holds although the program cannot cancel the call now."""
    release, ended = threading.Event(), list[str]()

    async def hold() -> None:
        release.wait(10)
        ended.append("held")

    async def test() -> None:
        async with open_runtime(plugins=[Tally]) as runtime:
            try:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(runtime.call(hold), 0.1)
                assert ended == []
            finally:
                release.set()

    run(test)


async def publish_for_ever(runtime: EmbeddedRuntime) -> None:
    """Publish until it is cancelled."""
    while True:
        await runtime.publish(Order())


def test_a_full_inbox_makes_the_caller_wait() -> None:
    """Back-pressure crosses the loops, and so does a time limit of the caller's."""
    hasty = Settings(shutdown=ShutdownSettings(drain=0.0))

    async def test() -> None:
        async with open_runtime(hasty, plugins=[Slow]) as runtime:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(publish_for_ever(runtime), 0.2)

    run(test)


class Never(BackgroundPlugin):
    async def initialize(self) -> None:
        raise KeyError("url")


def test_a_program_that_does_not_start_says_why() -> None:
    """The error of the start is raised by the block."""

    async def test() -> None:
        with pytest.raises(StartError, match="plugin 'never' did not start"):
            async with open_runtime(plugins=[Never]):
                pytest.fail("it has started")

    run(test)


class Hangs(BackgroundPlugin):
    async def initialize(self) -> None:
        await trio.sleep_forever()


def test_a_start_can_be_cancelled() -> None:
    """A service that gives up while a plugin starts leaves no thread."""

    async def test() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), open_runtime(plugins=[Hangs]):
                pytest.fail("it has started")

    run(test)


class Critical(EventPlugin[Order]):
    supervision = SupervisionSettings(critical=True, max_restarts=0)

    async def run(self) -> None:
        async for _ in self.inbox:
            raise KeyError("no more")


def test_the_end_of_a_critical_plugin_ends_the_block() -> None:
    """The task in the block is cancelled, and the block raises the plugin's error."""
    opened = list[EmbeddedRuntime]()

    async def service() -> None:
        async with open_runtime(plugins=[Critical]) as runtime:
            opened.append(runtime)
            await runtime.publish(Order())
            await asyncio.sleep(3600)

    async def test() -> None:
        with pytest.raises(CriticalPluginError):
            await service()
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        with pytest.raises(ProgramEndedError):
            await opened[0].publish(Order())

    run(test)


def test_a_call_under_way_does_not_hide_why_the_block_ends() -> None:
    """The block raises the plugin's error also where it stands in a call to the program."""

    async def service() -> None:
        async with open_runtime(plugins=[Critical]) as runtime:
            await runtime.publish(Order())
            await runtime.call(trio.sleep_forever)

    async def test() -> None:
        with pytest.raises(CriticalPluginError):
            await service()

    run(test)


def test_a_stop_iteration_comes_out_of_a_call() -> None:
    """A future cannot have one, so it becomes what Python makes of it in a coroutine."""

    def exhausted() -> Awaitable[None]:
        raise StopIteration

    async def test() -> None:
        async with open_runtime(plugins=[Tally]) as runtime:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await runtime.call(exhausted)

    run(test)


def test_a_cancelled_service_stops_the_program() -> None:
    """A service that is cancelled takes its program with it, in order."""
    statuses = list[str]()

    async def service() -> None:
        async with open_runtime(plugins=[Tally]) as runtime:
            try:
                await asyncio.sleep(3600)
            finally:
                statuses.append(runtime.runtime.hosts["tally"].status)

    async def test() -> None:
        task = asyncio.create_task(service())
        while not any(each.name == "trivet program" for each in threading.enumerate()):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test)


def test_a_second_program_on_the_same_store_is_refused(tmp_path: Path) -> None:
    """The second one fails at its start, and the first goes on."""
    settings = Settings(store=StoreSettings(path=tmp_path / "events.sqlite3"))

    class Durable(Tally):
        delivery = DeliverySettings(durable=True)

    async def test() -> None:
        async with open_runtime(settings, plugins=[Durable]) as first:
            with pytest.raises(Exception, match="in use"):
                async with open_runtime(settings, plugins=[Durable]):
                    pytest.fail("both have the store")
            assert (await first.publish(Order(1), wait=True)).worst is Fate.HANDLED

    run(test)


@asynccontextmanager
async def mounted() -> AsyncGenerator[tuple[EmbeddedRuntime, httpx.AsyncClient]]:
    """A program, and a client of its HTTP side on asyncio."""
    async with open_runtime(plugins=[Tally]) as runtime:
        transport = httpx.ASGITransport(runtime.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield runtime, client


def test_a_service_is_told_that_there_are_no_tokens() -> None:
    """One warning comes when the service takes the HTTP side, and none before."""

    async def test() -> None:
        said = "anybody whom this server lets in may publish and read"
        with capture_logs() as logs:
            async with open_runtime(plugins=[Tally]) as runtime:
                assert said not in [line["event"] for line in logs]
                assert runtime.app is runtime.app
        assert [line["event"] for line in logs].count(said) == 1

    run(test)


def test_the_http_side_is_an_application_on_asyncio() -> None:
    """Routes, events and problems are answered through the service's server."""

    async def test() -> None:
        async with mounted() as (_, client):
            posted = await client.post("/events/order?wait=true", json={"number": 4})
            assert posted.json()["fates"] == {"tally": "handled"}
            assert (await client.get("/tally")).json() == {"total": 4}
            assert (await client.get("/nowhere")).status_code == 404

    run(test)
