"""Plugins on asyncio, in memory: they live, fail and end as others do."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import cast

import pytest
import sniffio
import trio
from quart import request
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    App,
    AsyncioPlugin,
    BackgroundPlugin,
    Batch,
    BatchPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    MonitoringEvent,
    MonitoringPlugin,
    MonitoringPoint,
    Runtime,
    SourcePlugin,
    StartError,
    StartupSettings,
    Status,
    SupervisionSettings,
    current_delivery,
    route,
)
from trivet._loop._tasks import plugin_of_task
from trivet.testing import client, open_plugins

NEVER = SupervisionSettings(restart="temporary")


class Ping(Event):
    number: int = 0


class Pong(Event):
    number: int = 0


class Recorder(EventPlugin[Pong]):
    """What is published to, natively."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.seen: list[tuple[int, str | None]] = []

    async def handle_event(self, event: Pong) -> None:
        self.seen.append((event.number, current_delivery().request_id))


def library() -> str:
    """On which side this is called."""
    return sniffio.current_async_library()


async def failed(runtime: Runtime, plugin: str) -> BaseException:
    """Wait until the plugin is given up; says why."""
    host = runtime.hosts[plugin]
    await host.reached(Status.FAILED)
    assert host.failure is not None
    return host.failure


async def test_what_the_class_defines_runs_on_asyncio(autojump_clock: MockClock) -> None:
    """`initialize`, `run` and `close` are coroutines of asyncio, on one loop in a lifetime."""
    notes: list[tuple[str, str, asyncio.AbstractEventLoop]] = []

    def note(what: str) -> None:
        notes.append((what, library(), asyncio.get_running_loop()))

    class Worker(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await asyncio.sleep(1)
            note("initialize")

        async def run(self) -> None:
            note("run")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                note("cancelled")
                raise

        async def close(self) -> None:
            await asyncio.sleep(1)
            note("close")

    async with open_plugins(Worker):
        await trio.sleep(1)
    assert [what for what, _, _ in notes] == ["initialize", "run", "cancelled", "close"]
    assert {side for _, side, _ in notes} == {"asyncio"}
    assert len({id(loop) for _, _, loop in notes}) == 1


async def test_each_kind_of_plugin_may_be_on_asyncio(autojump_clock: MockClock) -> None:
    """Events, batches, monitoring points and sources: the author's method is on asyncio."""
    sides: dict[str, str] = {}

    class OneByOne(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0.1)
            sides["event"] = library()

    class ByBatch(AsyncioPlugin, BatchPlugin[Ping]):
        async def handle_batch(self, events: Batch[Ping]) -> None:
            await asyncio.sleep(0.1)
            sides["batch"] = library()

    class ByPoint(AsyncioPlugin, MonitoringPlugin):
        async def flush_points(self, points: list[MonitoringPoint]) -> None:
            await asyncio.sleep(0.1)
            sides["points"] = library()

    class Source(AsyncioPlugin, SourcePlugin):
        async def run(self) -> None:
            sides["source"] = library()
            await self.app.publish(Ping())
            await self.app.publish(MonitoringEvent([]), wait=True)
            await asyncio.sleep(3600)

    async with open_plugins(OneByOne, ByBatch, ByPoint, Source):
        await trio.sleep(5)
    assert sides == dict.fromkeys(("event", "batch", "points", "source"), "asyncio")


async def test_the_kind_may_be_named_before_asyncio() -> None:
    """The order of the two base classes does not matter."""
    sides: list[str] = []

    class Backwards(EventPlugin[Ping], AsyncioPlugin):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            sides.append(library())

    async with open_plugins(Backwards) as runtime:
        outcome = await runtime.publish(Ping(), wait=True)
    assert (outcome.worst, sides) == (Fate.HANDLED, ["asyncio"])


async def test_what_is_inherited_from_other_classes_stays_on_trio() -> None:
    """A base class that was written for Trio works on; what calls `super()` may be on asyncio."""
    sides: dict[str, str] = {}

    class Native(EventPlugin[Ping]):
        async def initialize(self) -> None:
            await trio.lowlevel.checkpoint()
            sides["initialize"] = library()

        async def handle_event(self, event: Ping) -> None:
            sides["base"] = library()

    class Mixed(AsyncioPlugin, Native):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            sides["handle_event"] = library()
            await super().handle_event(event)

    async with open_plugins(Mixed) as runtime:
        await runtime.publish(Ping(), wait=True)
    assert sides == {"initialize": "trio", "handle_event": "asyncio", "base": "asyncio"}


async def test_what_is_published_from_asyncio_carries_the_request_on() -> None:
    """The delivery in hand is known on asyncio, and behind what is published there."""
    ids: list[str | None] = []

    class Relay(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            ids.append(current_delivery().request_id)
            outcomes = await asyncio.gather(
                *(self.app.publish(Pong(number), wait=True) for number in range(2))
            )
            assert [outcome.worst for outcome in outcomes] == [Fate.HANDLED] * 2

    async with open_plugins(Relay, Recorder) as runtime:
        await runtime.publish(Ping(), wait=True, request_id="r-1")
        seen = runtime.get(Recorder).seen
    assert ids == ["r-1"]
    assert seen == [(0, "r-1"), (1, "r-1")]


async def test_a_route_is_on_trio_and_crosses_by_itself() -> None:
    """Quart's request is there; `run_on_asyncio` is the way to what is on asyncio."""

    class Echo(AsyncioPlugin, BackgroundPlugin):
        @route("/echo", methods=["POST"])
        async def echo(self) -> dict[str, object]:
            text = await request.get_data()
            return {"sides": [library(), await self.run_on_asyncio(self._shout, str(text))]}

        async def _shout(self, text: str) -> str:
            await asyncio.sleep(0)
            return f"{library()}: {text.upper()}"

    async with open_plugins(Echo) as runtime:
        answer = await client(runtime).post("/echo", data="tea")
        assert await answer.get_json() == {"sides": ["trio", "asyncio: B'TEA'"]}


async def test_one_plugin_on_asyncio_may_call_another() -> None:
    """Each has a loop of its own; a call from one to the other is made on the other's."""
    loops: list[asyncio.AbstractEventLoop] = []

    class Cache(AsyncioPlugin, BackgroundPlugin):
        async def look_up(self, key: int) -> int:
            return await self.run_on_asyncio(self._look_up, key)

        async def _look_up(self, key: int) -> int:
            await asyncio.sleep(0)
            loops.append(asyncio.get_running_loop())
            return key + 1

    class Asker(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            loops.append(asyncio.get_running_loop())
            assert await self.app.get(Cache).look_up(1) == 2

    async with open_plugins(Cache, Asker) as runtime:
        outcome = await runtime.publish(Ping(), wait=True)
    assert outcome.worst is Fate.HANDLED
    assert len({id(loop) for loop in loops}) == 2


async def test_run_on_trio_awaits_what_is_trios(autojump_clock: MockClock) -> None:
    """The stop's event, for one, is Trio's."""
    notes: list[str] = []

    class Watcher(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            self.watch = asyncio.create_task(self._watch())

        async def _watch(self) -> None:
            await self.run_on_trio(self.stopping.wait)
            notes.append("stopping")

        async def close(self) -> None:
            await self.watch

    async with open_plugins(Watcher):
        await trio.sleep(1)
        assert not notes
    assert notes == ["stopping"]


async def test_what_asyncio_cancels_is_cancelled_on_trio(autojump_clock: MockClock) -> None:
    """A time limit of asyncio's own holds for what it awaits on Trio; the errors are the same."""
    notes: list[str] = []

    class Impatient(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await self.run_on_trio(self._linger)
            with pytest.raises(ValueError, match="on Trio"):
                await self.run_on_trio(self._crash)

        async def _linger(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                notes.append(f"cancelled on {library()} at {trio.current_time() - begun:g}")

        async def _crash(self) -> None:
            await trio.lowlevel.checkpoint()
            raise ValueError("on Trio")

    async with open_plugins(Impatient) as runtime:
        begun = trio.current_time()
        outcome = await runtime.publish(Ping(), wait=True)
    assert (outcome.worst, notes) == (Fate.HANDLED, ["cancelled on trio at 1"])


async def test_a_cancellation_that_trio_feels_too_late_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    """Asyncio cancels once: what could not be cancelled on Trio ends in it all the same."""

    class Impatient(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await self.run_on_trio(self._linger)

        async def _linger(self) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    async with open_plugins(Impatient) as runtime:
        assert (await runtime.publish(Ping(), wait=True)).worst is Fate.HANDLED


async def test_what_asyncio_code_sets_in_its_context_stays_in_the_plugins() -> None:
    """`initialize` and `run` have one context, as on Trio."""
    place = ContextVar("place", default="nowhere")
    places: list[str] = []

    class Settled(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await asyncio.sleep(0)
            place.set("here")

        async def run(self) -> None:
            await asyncio.sleep(0)
            places.append(place.get())

    async with open_plugins(Settled):
        await trio.testing.wait_all_tasks_blocked()
    assert places == ["here"]
    assert place.get() == "nowhere"


@pytest.mark.parametrize("in_task", [False, True])
async def test_trio_awaited_on_asyncio_is_an_error_and_no_more(
    in_task: bool, autojump_clock: MockClock
) -> None:
    """A wrong `await` says how to do it, and harms nobody: Trio has forgotten of it."""

    class Wrong(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            wait = self.stopping.wait()
            await (asyncio.create_task(wait) if in_task else wait)

    with capture_logs() as logs:
        async with open_plugins(Wrong) as runtime:
            outcome = await runtime.publish(Ping(), wait=True)
    assert outcome.worst is Fate.FAILED
    (error,) = [log["exc_info"] for log in logs if log["log_level"] == "error"]
    assert "run_on_trio" in str(error)


async def test_a_handler_that_raises_costs_that_event_alone() -> None:
    """As on Trio; the traceback leads to the line on asyncio."""

    class Picky(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            if event.number == 0:
                raise ValueError("no zero")

    with capture_logs() as logs:
        async with open_plugins(Picky) as runtime:
            first = await runtime.publish(Ping(0), wait=True)
            second = await runtime.publish(Ping(1), wait=True)
            assert runtime.hosts["picky"].restarts == 0
    assert (first.worst, second.worst) == (Fate.FAILED, Fate.HANDLED)
    (error,) = [log["exc_info"] for log in logs if log["log_level"] == "error"]
    frames: list[str] = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert frames[-1] == "handle_event"


async def test_a_cancellation_that_asyncio_code_made_is_a_failure() -> None:
    """A `CancelledError` of a library's own does not pass for one of Trivet's."""

    class Cancelling(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            if event.number == 0:
                raise asyncio.CancelledError

    async with open_plugins(Cancelling) as runtime:
        first = await runtime.publish(Ping(0), wait=True)
        second = await runtime.publish(Ping(1), wait=True)
        assert runtime.hosts["cancelling"].restarts == 0
    assert (first.worst, second.worst) == (Fate.FAILED, Fate.HANDLED)


async def test_a_time_limit_cancels_on_asyncio_and_says_where_it_stood(
    autojump_clock: MockClock,
) -> None:
    """The handler gets a `CancelledError`; the event has failed, the next one is handled."""
    notes: list[str] = []

    class Slow(AsyncioPlugin, EventPlugin[Ping]):
        delivery = DeliverySettings(time_limit=1.0)

        async def handle_event(self, event: Ping) -> None:
            if event.number == 0:
                try:
                    await self._linger()
                except asyncio.CancelledError:
                    notes.append(f"cancelled at {trio.current_time():g}")
                    raise

        async def _linger(self) -> None:
            await asyncio.sleep(3600)

    with capture_logs() as logs:
        async with open_plugins(Slow) as runtime:
            begun = trio.current_time()
            first = await runtime.publish(Ping(0), wait=True)
            second = await runtime.publish(Ping(1), wait=True)
            assert runtime.statistics()["slow"].timed_out == 1
    assert (first.worst, second.worst) == (Fate.FAILED, Fate.HANDLED)
    assert notes == [f"cancelled at {begun + 1:g}"]
    (error,) = [log["exc_info"] for log in logs if log["log_level"] == "error"]
    assert "in _linger" in "".join(error.__notes__)


async def test_an_events_deadline_cancels_on_asyncio(autojump_clock: MockClock) -> None:
    """What is not handled by its deadline is expired."""

    class Slow(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(3600)

    async with open_plugins(Slow) as runtime:
        deadline = trio.current_time() + 2
        outcome = await runtime.publish(Ping(), wait=True, deadline=deadline)
        assert (outcome.worst, trio.current_time()) == (Fate.EXPIRED, deadline)


async def test_a_handler_that_swallows_its_cancellation_is_named(
    autojump_clock: MockClock,
) -> None:
    """As on Trio: the log says that it does not end, and the event has failed when it does."""

    class Stubborn(AsyncioPlugin, EventPlugin[Ping]):
        delivery = DeliverySettings(time_limit=1.0)

        async def handle_event(self, event: Ping) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await asyncio.sleep(5)

    with capture_logs() as logs:
        async with open_plugins(Stubborn) as runtime:
            outcome = await runtime.publish(Ping(), wait=True)
    assert outcome.worst is Fate.FAILED
    assert "handler does not end although it was cancelled" in [log["event"] for log in logs]


async def test_what_is_cancelled_before_it_began_does_not_begin() -> None:
    """A crossing out of a cancelled scope ends at once, on Trio's side."""
    notes: list[str] = []

    class Idle(AsyncioPlugin, BackgroundPlugin):
        async def note(self) -> None:
            notes.append("begun")

    async with open_plugins(Idle) as runtime:
        idle = runtime.get(Idle)
        with trio.CancelScope() as scope:
            scope.cancel()
            await idle.run_on_asyncio(idle.note)
        assert scope.cancelled_caught
    assert notes == []


async def test_a_hanging_initialize_is_cancelled_and_named(autojump_clock: MockClock) -> None:
    """Its limit holds on asyncio, and the error says at which line it stood."""

    class Hanging(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await self._connect()

        async def _connect(self) -> None:
            await asyncio.sleep(3600)

    with pytest.raises(StartError, match=r"longer than 2 s(?s:.*)in _connect"):
        async with open_plugins(Hanging, startup=StartupSettings(limit=2.0)):
            pass


async def test_a_crash_of_run_is_followed_by_a_lifetime_with_a_new_loop(
    autojump_clock: MockClock,
) -> None:
    """The instance is the same; what is left of the old loop's tasks was cancelled."""
    notes: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    class Crashing(AsyncioPlugin, BackgroundPlugin):
        async def run(self) -> None:
            loops.append(asyncio.get_running_loop())
            self.left = asyncio.create_task(self._linger())
            await asyncio.sleep(1)
            if len(loops) < 3:
                raise OSError("the connection is gone")
            await asyncio.sleep(3600)

        async def _linger(self) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.1)
                notes.append("ended")

    async with open_plugins(Crashing) as runtime:
        await trio.sleep(60)
        assert runtime.hosts["crashing"].restarts == 2
        assert notes == ["ended", "ended"]
    assert len({id(loop) for loop in loops}) == 3
    assert all(loop.is_closed() for loop in loops)


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("where", ["initialize", "run", "handle_event"])
async def test_a_crash_of_an_orphan_task_is_a_crash_of_the_plugin(
    where: str, is_kept: bool, autojump_clock: MockClock
) -> None:
    """Nobody awaits it, be there a reference to it or not: the plugin fails by its error."""

    class Parent(AsyncioPlugin, EventPlugin[Ping]):
        supervision = NEVER
        task: asyncio.Task[None] | None = None

        def start(self) -> None:
            task = asyncio.create_task(self._crash(), name="orphan")
            if is_kept:
                self.task = task

        async def _crash(self) -> None:
            await asyncio.sleep(0.5)
            raise ValueError("nobody hears me")

        async def initialize(self) -> None:
            if where == "initialize":
                self.start()

        async def handle_event(self, event: Ping) -> None:
            if where == "handle_event":
                self.start()

        async def run(self) -> None:
            if where == "run":
                self.start()
            await self.run_on_trio(super().run)

    async with open_plugins(Parent) as runtime:
        await runtime.publish(Ping(), wait=True)
        await trio.sleep(0.6)
        gc.collect()
        error = await failed(runtime, "parent")
    assert isinstance(error, ValueError)
    assert "'orphan'" in error.__notes__[0]


async def test_an_orphan_that_outlives_run_is_watched_too(autojump_clock: MockClock) -> None:
    """LUNA's way: `run` starts a task and returns. When that task fails, so does the plugin."""

    class Boiling(AsyncioPlugin, BackgroundPlugin):
        _starts: int = 0

        async def run(self) -> None:
            self._starts += 1
            self.task = asyncio.create_task(self._boil())

        async def _boil(self) -> None:
            await asyncio.sleep(5)
            if self._starts == 1:
                raise RuntimeError("no water")
            await asyncio.sleep(3600)

    async with open_plugins(Boiling) as runtime:
        await trio.sleep(60)
        host = runtime.hosts["boiling"]
        assert (host.restarts, host.status) == (1, "running")
        assert host.error == "RuntimeError: no water"


async def test_an_orphan_that_fails_while_the_plugin_starts_fails_the_start(
    autojump_clock: MockClock,
) -> None:
    """`initialize` is not waited for any longer."""

    class Doomed(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            self.task = asyncio.create_task(self._crash())
            await asyncio.sleep(30)

        async def _crash(self) -> None:
            raise ValueError("no broker")

    begun = trio.current_time()
    with pytest.raises(StartError, match="ValueError: no broker"):
        async with open_plugins(Doomed):
            pass
    assert trio.current_time() - begun < 5


async def test_a_failed_start_is_told_by_the_error_that_initialize_raised() -> None:
    """What its tasks fail with besides is in the log."""

    class Doomed(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            self.task = asyncio.create_task(self._crash())
            await asyncio.sleep(0)
            raise OSError("no address")

        async def _crash(self) -> None:
            raise ValueError("no broker")

    with capture_logs() as logs:
        with pytest.raises(StartError, match="OSError: no address"):
            async with open_plugins(Doomed):
                pass
    errors = [log for log in logs if log["log_level"] == "error"]
    assert [log["event"] for log in errors] == [
        "plugin failed while it stopped",
        "plugin did not start",
    ]
    assert [str(log["exc_info"]) for log in errors] == ["no broker", "no address"]


async def test_only_coroutines_become_tasks() -> None:
    """As on any loop of asyncio's."""

    class Wrong(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            create_task = cast("Callable[[object], object]", asyncio.create_task)
            with pytest.raises(TypeError):
                create_task(event)

    async with open_plugins(Wrong) as runtime:
        assert (await runtime.publish(Ping(), wait=True)).worst is Fate.HANDLED


async def test_a_failure_that_is_awaited_within_a_second_is_the_waiters(
    autojump_clock: MockClock,
) -> None:
    """A task may fail before somebody asks for its result."""

    class Patient(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            task = asyncio.create_task(self._crash())
            await asyncio.sleep(0.9)
            with pytest.raises(ValueError, match="later"):
                await task

        async def _crash(self) -> None:
            raise ValueError("later")

    async with open_plugins(Patient) as runtime:
        outcome = await runtime.publish(Ping(), wait=True)
        await trio.sleep(10)
        assert (outcome.worst, runtime.hosts["patient"].restarts) == (Fate.HANDLED, 0)


@pytest.mark.parametrize("in_task", [False, True])
async def test_an_exit_ends_the_plugin_and_neither_its_loop_nor_the_program(
    in_task: bool, autojump_clock: MockClock
) -> None:
    """`sys.exit()` on asyncio is a crash; `close` has its loop still."""
    notes: list[str] = []

    class Exiting(AsyncioPlugin, BackgroundPlugin):
        supervision = NEVER

        async def run(self) -> None:
            await asyncio.sleep(1)
            if not in_task:
                sys.exit(3)
            self.task = asyncio.create_task(self._exit())

        async def _exit(self) -> None:
            sys.exit(3)

        async def close(self) -> None:
            await asyncio.sleep(1)
            notes.append("closed")

    async with open_plugins(Exiting, Recorder) as runtime:
        error = await failed(runtime, "exiting")
        assert isinstance(error, SystemExit)
        assert (await runtime.publish(Pong(), wait=True)).worst is Fate.HANDLED
    assert notes == ["closed"]


async def test_a_callback_that_raises_is_a_crash(autojump_clock: MockClock) -> None:
    """What asyncio calls back is the plugin's code as well."""

    class Calling(AsyncioPlugin, BackgroundPlugin):
        supervision = NEVER

        async def run(self) -> None:
            asyncio.get_running_loop().call_later(1, self._crash)
            await asyncio.sleep(3600)

        def _crash(self) -> None:
            raise ValueError("called back")

    async with open_plugins(Calling) as runtime:
        assert str(await failed(runtime, "calling")) == "called back"


async def test_what_asyncio_says_without_a_crash_is_logged(autojump_clock: MockClock) -> None:
    """An unclosed client, or a connection's error, is an error in the log, and no more."""

    class Careless(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": "Unclosed client session"})
            await loop.run_in_executor(
                None, loop.call_exception_handler, {"message": "from a thread"}
            )

    with capture_logs() as logs:
        async with open_plugins(Careless) as runtime:
            outcome = await runtime.publish(Ping(), wait=True)
            await trio.testing.wait_all_tasks_blocked()
            assert runtime.hosts["careless"].restarts == 0
    assert outcome.worst is Fate.HANDLED
    errors = [log for log in logs if log["log_level"] == "error"]
    assert [log["plugin"] for log in errors] == ["careless", "careless"]
    assert errors[0]["event"].startswith("asyncio: ")  # In aiohttp's words.
    assert errors[1]["event"] == "asyncio: from a thread"


async def test_what_fails_while_the_plugin_is_closed_is_logged(autojump_clock: MockClock) -> None:
    """At a stop nothing is to be restarted, and nothing is unseen."""

    class Late(AsyncioPlugin, BackgroundPlugin):
        async def close(self) -> None:
            self.task = asyncio.create_task(self._crash())
            await asyncio.sleep(2)

        async def _crash(self) -> None:
            raise ValueError("too late")

    with capture_logs() as logs:
        async with open_plugins(Late) as runtime:
            pass
    assert runtime.hosts["late"].status == "stopped"
    (error,) = [log for log in logs if log["log_level"] == "error"]
    assert error["event"] == "plugin failed while it stopped"
    assert str(error["exc_info"]) == "too late"


async def test_what_has_failed_just_before_the_end_is_not_unseen(
    autojump_clock: MockClock,
) -> None:
    """Nobody waits another second to see whether somebody asks; the next lifetime is not blamed."""

    class Late(AsyncioPlugin, EventPlugin[Ping]):
        task: asyncio.Task[None] | None = None

        async def handle_event(self, event: Ping) -> None:
            self.task = asyncio.create_task(self._crash())

        async def _crash(self) -> None:
            raise ValueError("at the last moment")

    with capture_logs() as logs:
        async with open_plugins(Late) as runtime:
            await runtime.publish(Ping(), wait=True)
            await trio.sleep(0.5)
            runtime.restart("late")
            await trio.sleep(10)
            runtime.get(Late).task = None
            gc.collect()
            await trio.sleep(10)
            assert runtime.hosts["late"].restarts == 1
    errors = [log for log in logs if log["log_level"] == "error"]
    assert [log["event"] for log in errors] == ["plugin failed while it stopped"], errors
    assert str(errors[0]["exc_info"]) == "at the last moment"


async def test_there_is_no_crossing_to_a_lifetime_that_ends(autojump_clock: MockClock) -> None:
    """A request that comes then fails; it does not wait for a loop that will not go on."""
    errors: list[str] = []

    class Leaving(AsyncioPlugin, BackgroundPlugin):
        async def run(self) -> None:
            self.task = asyncio.create_task(self._linger())

        async def _linger(self) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await self.run_on_trio(self._ask)

        async def _ask(self) -> None:
            with pytest.raises(RuntimeError, match="lifetime ends"):
                await self.run_on_asyncio(asyncio.sleep, 1)
            errors.append("refused")

    async with open_plugins(Leaving):
        await trio.sleep(1)
    assert errors == ["refused"]


async def test_what_is_left_at_the_end_is_cancelled_and_awaited(autojump_clock: MockClock) -> None:
    """Tasks that `close` has not ended have the time that resources have; and so do children."""
    notes: list[str] = []

    class Untidy(AsyncioPlugin, BackgroundPlugin):
        async def run(self) -> None:
            self.task = asyncio.create_task(self._linger())

        async def _linger(self) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                self.child = asyncio.create_task(self._tidy_up())
                notes.append("cancelled")

        async def _tidy_up(self) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                notes.append("child cancelled")

    async with open_plugins(Untidy):
        await trio.sleep(1)
    assert notes == ["cancelled", "child cancelled"]


async def test_a_task_that_does_not_end_is_named(autojump_clock: MockClock) -> None:
    """One that swallows its cancellation is said to the log, with the line at which it stands."""

    class Untidy(AsyncioPlugin, BackgroundPlugin):
        async def run(self) -> None:
            self.task = asyncio.create_task(self._linger(), name="stubborn")

        async def _linger(self) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await self._stay()

        async def _stay(self) -> None:
            await asyncio.sleep(3600)

    with capture_logs() as logs:
        async with open_plugins(Untidy):
            await trio.sleep(1)
    (named,) = [log for log in logs if "does not end" in log["event"]]
    assert (named["plugin"], named["task"]) == ("untidy", "stubborn")
    assert "in _stay" in named["stack"]


async def test_the_stack_of_a_plugin_goes_on_on_asyncio() -> None:
    """Who looks where a plugin stands is not shown the way to asyncio alone."""

    class Waiting(AsyncioPlugin, BackgroundPlugin):
        async def run(self) -> None:
            await self._deeper()

        async def _deeper(self) -> None:
            await asyncio.Event().wait()

    async with open_plugins(Waiting) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        assert "in _deeper" in runtime.hosts["waiting"].stack()


async def test_what_is_entered_on_asyncio_is_left_there_in_reverse_order() -> None:
    """`enter` works in an `initialize` on asyncio; both ends are in one task."""
    notes: list[tuple[str, str, object]] = []

    @asynccontextmanager
    async def resource(name: str) -> AsyncGenerator[str]:
        await asyncio.sleep(0)
        notes.append((f"enter {name}", library(), asyncio.current_task()))
        yield name
        await asyncio.sleep(0)
        notes.append((f"leave {name}", library(), asyncio.current_task()))

    class Holder(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            assert await self.enter(resource("a")) == "a"
            await self.enter(resource("b"))

        async def close(self) -> None:
            notes.append(("close", library(), None))

    async with open_plugins(Holder):
        pass
    assert [note for note, _, _ in notes] == ["enter a", "enter b", "close", "leave b", "leave a"]
    assert {side for _, side, _ in notes} == {"asyncio"}
    tasks = [task for _, _, task in notes]
    assert tasks[0] is tasks[4]
    assert tasks[1] is tasks[3]


async def test_what_cannot_be_entered_fails_the_start() -> None:
    """The error is the manager's own."""

    @asynccontextmanager
    async def broken() -> AsyncGenerator[None]:
        await asyncio.sleep(0)
        raise OSError("refused")
        yield

    class Holder(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await self.enter(broken())

    with pytest.raises(StartError, match="OSError: refused"):
        async with open_plugins(Holder):
            pass


async def test_what_is_entered_learns_of_the_crash() -> None:
    """A transaction, say, is left with the error that ended the lifetime, and rolls back."""
    errors: list[BaseException] = []

    @asynccontextmanager
    async def transaction() -> AsyncGenerator[None]:
        try:
            yield
        except ValueError as error:
            errors.append(error)
            raise

    class Holder(AsyncioPlugin, BackgroundPlugin):
        supervision = NEVER

        async def initialize(self) -> None:
            await self.enter(transaction())

        async def run(self) -> None:
            raise ValueError("wrong")

    async with open_plugins(Holder) as runtime:
        error = await failed(runtime, "holder")
    assert errors == [error]


async def test_a_task_group_can_be_held(autojump_clock: MockClock) -> None:
    """Its tasks live as long as the plugin, and a crash of one fails the plugin."""
    notes: list[str] = []

    class Grouped(AsyncioPlugin, EventPlugin[Ping]):
        supervision = NEVER

        async def initialize(self) -> None:
            self.group = await self.enter(asyncio.TaskGroup())
            self.group.create_task(self._linger())

        async def handle_event(self, event: Ping) -> None:
            self.group.create_task(self._crash())

        async def _linger(self) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                notes.append("ended")

        async def _crash(self) -> None:
            raise ValueError("one of the group")

    async with open_plugins(Grouped) as runtime:
        await runtime.publish(Ping(), wait=True)
        error = await failed(runtime, "grouped")
    assert isinstance(error, ExceptionGroup)
    assert notes == ["ended"]


async def test_trios_managers_are_refused_on_asyncio() -> None:
    """A nursery that is entered there would be in the wrong task."""

    class Holder(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await self.enter(trio.open_nursery())

    with pytest.raises(StartError, match="cannot be entered on asyncio"):
        async with open_plugins(Holder):
            pass


async def test_there_is_no_crossing_to_a_plugin_that_is_not_alive() -> None:
    """Its loop lives as long as its lifetime does."""

    class Idle(AsyncioPlugin, BackgroundPlugin):
        async def work(self) -> None:
            await asyncio.sleep(0)

    async with open_plugins(Idle) as runtime:
        idle = runtime.get(Idle)
        await idle.run_on_asyncio(idle.work)
    with pytest.raises(RuntimeError, match="'idle' is not alive"):
        await idle.run_on_asyncio(idle.work)


async def test_the_loop_is_charged_to_its_plugin() -> None:
    """What asyncio code does is that plugin's time, not the service's."""

    class Busy(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await asyncio.sleep(0)
            owners.add(plugin_of_task.get())

    owners: set[str] = set()
    async with open_plugins(Busy) as runtime:
        await runtime.publish(Ping(), wait=True)
    assert owners == {"busy"}


async def test_a_task_may_be_cancelled_before_it_has_begun() -> None:
    """As on asyncio itself, it has ended, and nothing is said of a coroutine never awaited."""

    class Hasty(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            task = asyncio.create_task(asyncio.sleep(3600))
            task.cancel()
            await asyncio.wait([task])
            ended.append(task.cancelled())

    ended: list[bool] = []
    async with open_plugins(Hasty):
        gc.collect()  # Where it would be said.
    assert ended == [True]
