"""One asyncio loop within a lifetime: its tasks, its errors, its end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    AsyncioPlugin,
    BackgroundPlugin,
    EventPlugin,
    Fate,
    StartError,
)
from trivet.testing import open_plugins

from .parts import NEVER, Ping, failed, library

# Tasks that nobody awaits.


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("where", ["initialize", "run", "handle_event"])
async def test_orphan(where: str, is_kept: bool, autojump_clock: MockClock) -> None:
    """A task that fails and is never awaited fails the plugin, referenced or not."""

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


async def test_orphan_after_run(autojump_clock: MockClock) -> None:
    """A task of a `run` that has returned, LUNA's way, fails the plugin when it fails."""

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


async def test_orphan_in_initialize(
    autojump_clock: MockClock,
) -> None:
    """A task that fails while the plugin starts fails the start at once."""

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


async def test_awaited_failure(
    autojump_clock: MockClock,
) -> None:
    """A failed task may be awaited up to a second later, and then fails its waiter alone."""

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


async def test_only_coroutines_become_tasks() -> None:
    """`create_task` refuses other objects than coroutines, as on any asyncio loop."""

    class Wrong(AsyncioPlugin, EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            create_task = cast("Callable[[object], object]", asyncio.create_task)
            with pytest.raises(TypeError):
                create_task(event)

    async with open_plugins(Wrong) as runtime:
        assert (await runtime.publish(Ping(), wait=True)).worst is Fate.HANDLED


async def test_task_cancelled_unbegun() -> None:
    """A task may be cancelled before its first step; no warning is about its coroutine."""

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


# The loop's exception handler.


async def test_a_callback_that_raises_is_a_crash(autojump_clock: MockClock) -> None:
    """An error in a callback of the loop fails the plugin."""

    class Calling(AsyncioPlugin, BackgroundPlugin):
        supervision = NEVER

        async def run(self) -> None:
            asyncio.get_running_loop().call_later(1, self._crash)
            await asyncio.sleep(3600)

        def _crash(self) -> None:
            raise ValueError("called back")

    async with open_plugins(Calling) as runtime:
        assert str(await failed(runtime, "calling")) == "called back"


async def test_complaints_of_asyncio(autojump_clock: MockClock) -> None:
    """An unclosed client, or an error of a connection, is logged as an error, and no more."""

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


# The end of a lifetime.


async def test_failure_in_close(autojump_clock: MockClock) -> None:
    """A task that fails during `close` is logged; nothing is restarted at a stop."""

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


async def test_failure_before_the_end(
    autojump_clock: MockClock,
) -> None:
    """A task that failed shortly before the end is logged then; the next lifetime is not blamed."""

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


async def test_crossing_to_an_ending_lifetime(autojump_clock: MockClock) -> None:
    """A call that comes while the loop ends raises at once."""
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


async def test_tasks_left_at_the_end(autojump_clock: MockClock) -> None:
    """Tasks that are left after `close` are cancelled and awaited, with tasks that these start."""
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


async def test_task_that_does_not_end(autojump_clock: MockClock) -> None:
    """An error in the log names a task that swallows its cancellation, and its line."""

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


# Context managers.


async def test_enter() -> None:
    """Context managers that `initialize` enters on asyncio are left there, each in its own task."""
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


async def test_failed_enter() -> None:
    """An error of a context manager's own fails the start."""

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


async def test_enter_and_crash() -> None:
    """A transaction is left with the error that ended the lifetime, and rolls back."""
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
    """The tasks of a held task group live as long as the plugin; a crash of one fails it."""
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
    """A context manager of Trio's is refused on asyncio: it would be in the wrong task."""

    class Holder(AsyncioPlugin, BackgroundPlugin):
        async def initialize(self) -> None:
            await self.enter(trio.open_nursery())

    with pytest.raises(StartError, match="cannot be entered on asyncio"):
        async with open_plugins(Holder):
            pass
