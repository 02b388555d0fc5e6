"""Exceptions that a plugin may raise without ending more than itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import structlog
import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    Event,
    EventPlugin,
    PermanentError,
    Settings,
    Status,
    SupervisionSettings,
    open_runtime,
)
from trivet._faults._containment import includes, split_cancelled, summary
from trivet._program._loader import load
from trivet._runtime import Runtime, running
from trivet._supervision._host import Host
from trivet.testing import open_plugins


def stray() -> trio.Cancelled:
    """A Cancelled that belongs to no scope any more."""
    kept: list[trio.Cancelled] = []

    async def get_one() -> None:
        with trio.CancelScope() as cancelled:
            cancelled.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
                raise

    trio.run(get_one)
    return kept[0]


class HostileError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class LeavingError(Exception):
    def __init__(self, leave: BaseException) -> None:
        self.leave = leave

    def __str__(self) -> str:
        raise self.leave


def caused_by(cause: BaseException) -> BaseException:
    """An error whose argument and cause is another one."""
    error = ValueError(cause)
    error.__cause__ = cause
    return error


STRAY = stray()
FAULTS: dict[str, Callable[[], BaseException]] = {
    "exit": lambda: SystemExit(0),
    "exit with a text": lambda: SystemExit("told to"),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "no memory": MemoryError,
    "recursion": RecursionError,
    "no text": HostileError,
    "a text that exits": lambda: LeavingError(SystemExit(5)),
    "a text that interrupts": lambda: LeavingError(KeyboardInterrupt()),
    "a text that is cancelled": lambda: LeavingError(STRAY),
    "an exit in a cause's text": lambda: caused_by(LeavingError(SystemExit(5))),
    "base": lambda: BaseException("as such"),
    "stray": lambda: STRAY,
    "mixed group": lambda: BaseExceptionGroup("", [SystemExit(3), ValueError()]),
    "stray in a group": lambda: BaseExceptionGroup("", [STRAY, ExceptionGroup("", [OSError()])]),
}

CASES = [
    pytest.param(where, make, id=f"{where}, {name}")
    for where in ["initialize", "run", "task"]
    for name, make in FAULTS.items()
    # A nursery takes every Cancelled of its tasks for its own.
    if where != "task" or not includes(make(), trio.Cancelled)
]


class Faulty(BackgroundPlugin):
    """Raises in one of its methods, in its first life."""

    where: str = ""
    what: Any = None
    lives: ClassVar[int]
    supervision = SupervisionSettings(on_start_failure="retry", backoff_initial=0)

    async def initialize(self) -> None:
        type(self).lives += 1
        self.raise_in("initialize")

    async def run(self) -> None:
        self.raise_in("run")
        if self.where == "task" and self.lives == 1:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(self.in_task)
        await trio.sleep_forever()

    async def close(self) -> None:
        self.raise_in("close")

    async def in_task(self) -> None:
        self.raise_in("task")

    def raise_in(self, where: str) -> None:
        if self.where == where and self.lives == 1:
            raise self.what


class Neighbour(BackgroundPlugin):
    closed: ClassVar[int]

    async def close(self) -> None:
        type(self).closed += 1


@pytest.fixture(autouse=True)
def begin() -> None:
    """Begin each test with plugins that have not lived."""
    Faulty.lives = Neighbour.closed = 0


def program(where: str, fault: BaseException) -> Runtime:
    """A program whose signals go to a receiver, as those of `trivet serve`."""
    settings = Settings(plugins={"faulty": {"where": where, "what": fault}})
    return Runtime(load(settings, plugins=[Faulty, Neighbour]), contains_interrupts=True)


@pytest.mark.parametrize(("where", "make"), CASES)
async def test_whatever_a_plugin_raises_is_its_own_failure(
    where: str, make: Callable[[], BaseException], autojump_clock: MockClock
) -> None:
    """The plugin is named, restarted by its policy, and its neighbour notices nothing."""
    fault = make()
    with structlog.testing.capture_logs() as logs:
        async with running(program(where, fault)) as runtime:
            host = runtime.hosts["faulty"]
            while (host.restarts, host.status) != (1, Status.RUNNING):
                await host.changed()
            assert summary(fault).split(" (")[0] in str(host.error)
            assert runtime.hosts["neighbour"].status is Status.RUNNING
            assert Neighbour.closed == 0
    assert Neighbour.closed == 1
    assert [log["plugin"] for log in logs if log["event"] == "plugin failed"] == ["faulty"]


@pytest.mark.parametrize("make", FAULTS.values(), ids=FAULTS)
async def test_whatever_close_raises_is_logged(make: Callable[[], BaseException]) -> None:
    """An exception of `close` is logged with its plugin, and the stop goes on."""
    with structlog.testing.capture_logs() as logs:
        async with running(program("close", make())):
            pass
    assert [log["plugin"] for log in logs if log["event"] == "close() failed"] == ["faulty"]
    assert Neighbour.closed == 1


async def test_a_fault_beside_a_cancellation_is_told_and_the_cancellation_goes_on(
    autojump_clock: MockClock,
) -> None:
    """A start that is cancelled, and that raises in one of its tasks, ends as cancelled."""

    class Torn(BackgroundPlugin):
        async def initialize(self) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.wait)
                await trio.sleep_forever()

        async def wait(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise SystemExit("torn")

    with structlog.testing.capture_logs() as logs:
        with trio.move_on_after(1) as scope:
            async with open_plugins(Torn):
                pytest.fail("the block must not be entered")
    assert scope.cancelled_caught
    (line,) = [log for log in logs if log["event"] == "plugin failed while it stopped"]
    assert "torn" in summary(line["exc_info"])


async def test_an_embedders_ctrl_c_is_not_a_plugins_failure() -> None:
    """A KeyboardInterrupt that Python makes of Ctrl-C ends the program, in order."""

    class Interrupted(Faulty):
        needs = (Neighbour,)
        where: str = "run"
        what: Any = KeyboardInterrupt()

    Interrupted.lives = 0
    with pytest.raises(KeyboardInterrupt):
        async with open_plugins(Interrupted, Neighbour):
            await trio.sleep_forever()
    assert Neighbour.closed == 1


async def test_an_event_that_exits_is_given_up_like_one_that_crashes(
    autojump_clock: MockClock,
) -> None:
    """`sys.exit()` in a handler crashes `run`; the event fails at its limit, and on it goes."""
    handled: list[int] = []

    class Ping(Event):
        number: int

    class Exits(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            if event.number == 0:
                raise SystemExit
            handled.append(event.number)

    async with open_plugins(Exits) as runtime:
        await runtime.publish(Ping(0))
        await runtime.publish(Ping(1), wait=True)
    assert handled == [1]
    assert runtime.statistics()["exits"].failed == 1


async def test_split_tells_a_cancellation_from_a_fault() -> None:
    """Within a cancelled scope a Cancelled goes on; outside of one it is a fault."""
    group = BaseExceptionGroup("", [STRAY, ValueError()])
    assert split_cancelled(STRAY) == (None, STRAY)
    assert split_cancelled(group) == (None, group)
    with trio.CancelScope() as scope:  # noqa: ASYNC100 - it is there to be seen
        scope.cancel()
        assert split_cancelled(STRAY) == (STRAY, None)
        cancelled, fault = split_cancelled(group)
        assert includes(cancelled, trio.Cancelled)
        assert not includes(cancelled, ValueError)
        assert summary(fault or STRAY).startswith("ValueError")
        error = ValueError()
        assert split_cancelled(error) == (None, error)


TYPES = [
    ("permanent", "fails", True),
    ("permanent", "returns", True),
    ("transient", "fails", True),
    ("transient", "returns", False),
    ("temporary", "fails", False),
    ("temporary", "returns", False),
]


def lives(host: Host) -> Iterator[object]:
    """The facts that a test about restarts compares."""
    yield host.status
    yield host.restarts


@pytest.mark.parametrize(("restart", "end", "again"), TYPES)
async def test_the_three_types_of_restart(
    restart: Any, end: str, again: bool, autojump_clock: MockClock
) -> None:
    """Permanent plugins start again in any case, transient ones if they failed, others never."""

    class Mortal(BackgroundPlugin):
        supervision = SupervisionSettings(restart=restart)
        lives: ClassVar[int] = 0

        async def run(self) -> None:
            type(self).lives += 1
            if self.lives > 1:
                await trio.sleep_forever()
            if end == "fails":
                raise ValueError("mortal")

    async with open_plugins(Mortal) as runtime:
        await trio.sleep(1000)
        given_up = Status.FAILED if end == "fails" else Status.RUNNING
        expected = [Status.RUNNING, 1] if again else [given_up, 0]
        assert list(lives(runtime.hosts["mortal"])) == expected
        assert Mortal.lives == (2 if again else 1)


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_permanent_error_skips_the_restarts(
    grouped: bool, autojump_clock: MockClock
) -> None:
    """A plugin that says that trying again cannot help is given up at once."""

    class Locked(BackgroundPlugin):
        async def run(self) -> None:
            error = PermanentError("wrong password")
            raise ExceptionGroup("", [error]) if grouped else error

    with structlog.testing.capture_logs() as logs:
        async with open_plugins(Locked) as runtime:
            host = runtime.hosts["locked"]
            await host.wait_for_status(Status.FAILED)
            assert list(lives(host)) == [Status.FAILED, 0]
            assert host.error == "PermanentError: wrong password"
    (line,) = [log for log in logs if log["event"] == "plugin is given up"]
    assert line["why"] == "it says that trying again cannot help"


async def test_a_start_that_is_retried_has_no_limit_of_times(autojump_clock: MockClock) -> None:
    """With `on_start_failure = "retry"` who waits for a database waits as long as it takes."""

    class Waits(BackgroundPlugin):
        supervision = SupervisionSettings(on_start_failure="retry")

        async def initialize(self) -> None:
            if trio.current_time() < 7200:
                raise ConnectionError("no database")

    with structlog.testing.capture_logs():  # Some hundred failures.
        async with open_runtime(plugins=[Waits]) as runtime:
            assert runtime.hosts["waits"].status is Status.BACKING_OFF
            await runtime.hosts["waits"].wait_for_status(Status.RUNNING)
    assert trio.current_time() >= 7200


def deep(error: BaseException) -> BaseException:
    """The error in groups that are nested deeper than Python recurses."""
    for _ in range(5000):
        error = BaseExceptionGroup("nursery", [error])
    return error


async def test_a_group_that_is_too_deep_is_a_failure_as_any_other() -> None:
    """An exception group of any depth is a failure whose innermost error is named."""

    class Deep(BackgroundPlugin):
        supervision = SupervisionSettings(max_restarts=0)

        async def run(self) -> None:
            raise deep(ValueError("bottom"))

    async with open_plugins(Deep) as runtime:
        host = runtime.hosts["deep"]
        await host.wait_for_status(Status.FAILED)
        assert host.error == "ValueError: bottom"


async def test_a_cancellation_in_a_group_that_is_too_deep_goes_on() -> None:
    """A cancellation and a fault are told apart in an exception group of any depth."""
    split: list[BaseException | None] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            group = BaseExceptionGroup("two", [deep(ValueError("bottom")), deep(cancelled)])
            split += split_cancelled(group)
            raise
    again, fault = split
    assert includes(again, trio.Cancelled)
    assert not includes(again, ValueError)
    assert includes(fault, ValueError)
    assert not includes(fault, trio.Cancelled)
