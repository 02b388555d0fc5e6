"""The watchdog, in a process that does not end: its end is replaced."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Iterator

import attrs
import pytest

from trivet._process import _watchdog
from trivet._process._escalation import LOOP, THREAD
from trivet._process._report import Report
from trivet._process._watchdog import KernelTimer, Watchdog

pytestmark = pytest.mark.real_time

SOON = 5.0
"""Seconds within which a thread that works is seen to."""


@attrs.define
class Ends:
    """The exit codes with which a watchdog would have ended the process."""

    codes: queue.SimpleQueue[int] = attrs.field(factory=queue.SimpleQueue[int])

    def end(self, code: int) -> None:
        """Stand in for `os._exit`, which does not return: the thread stays here."""
        self.codes.put(code)
        if threading.current_thread() is not threading.main_thread():
            threading.Event().wait()


def nothing(*args: object, **keywords: object) -> None:
    """Stand in for a function that changes the process."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """No process ends, and no timer of the kernel is armed."""
    ends = Ends()
    monkeypatch.setattr(_watchdog, "_exit", ends.end)
    monkeypatch.setattr(KernelTimer, "arm", nothing)
    monkeypatch.setattr("faulthandler.register", nothing)
    monkeypatch.setattr("faulthandler.enable", nothing)
    return ends


@pytest.fixture
def report() -> Iterator[int]:
    """The descriptor of a file that a parent would read."""
    descriptor = os.memfd_create("report")
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def pipe() -> tuple[int, int]:
    """The pipe on which a parent asks for the stop: its read end, and its write end.

    The read end stays open, because a watchdog's thread lives, and reads, as long as the process.
    """
    return os.pipe()


def watchdog(
    report: int,
    *,
    budget: float = math.inf,
    hang_limit: float = 0.0,
    stop_read: int | None = None,
) -> Watchdog:
    """A watchdog with some limits."""
    return Watchdog(
        budget=budget, hang_limit=hang_limit, stop_read=stop_read, report=Report(report)
    )


def text_of(report: int) -> str:
    """The report so far."""
    return os.pread(report, 100_000, 0).decode()


def test_requests_of_the_parent_are_passed_on(
    ends: Ends, report: int, pipe: tuple[int, int]
) -> None:
    """Each byte on the pipe is one request more; the end of the pipe is a request, too."""
    stop_read, stop_write = pipe
    requests: queue.SimpleQueue[int] = queue.SimpleQueue()
    watching = watchdog(report, stop_read=stop_read)
    watching.attach(requests.put, tuple)
    os.write(stop_write, b"!")
    assert requests.get(timeout=SOON) == 1
    os.write(stop_write, b"!")
    assert requests.get(timeout=SOON) == 2
    os.close(stop_write)
    assert requests.get(timeout=SOON) == 2


def test_a_parent_that_is_gone_asks_for_the_stop(
    ends: Ends, report: int, pipe: tuple[int, int]
) -> None:
    """The end of the pipe, before any byte, is the first request."""
    stop_read, stop_write = pipe
    requests: queue.SimpleQueue[int] = queue.SimpleQueue()
    watching = watchdog(report, stop_read=stop_read)
    watching.attach(requests.put, tuple)
    os.close(stop_write)
    assert requests.get(timeout=SOON) == 1
    assert watching.requests == 1


def test_a_request_before_the_loop_runs(ends: Ends, report: int, pipe: tuple[int, int]) -> None:
    """The request is counted, and passed on once the loop is attached."""
    stop_read, stop_write = pipe
    watching = watchdog(report, stop_read=stop_read)
    os.write(stop_write, b"!")
    until = time.monotonic() + SOON
    while not watching.requests and time.monotonic() < until:
        time.sleep(0.001)
    requests: queue.SimpleQueue[int] = queue.SimpleQueue()
    watching.attach(requests.put, tuple)
    assert requests.get(timeout=SOON) == 1
    os.close(stop_write)


def test_a_stop_that_overruns_its_budget(ends: Ends, report: int) -> None:
    """The thread ends the process, and the report has the description that was ready."""
    watching = watchdog(report, budget=-THREAD.after)
    watching.attach(lambda _: None, lambda: ["a plugin that hangs\n"])
    watching.begin_stop()
    assert ends.codes.get(timeout=SOON) == THREAD.exit_code
    assert "the watchdog's thread ends the process\na plugin that hangs\n" in text_of(report)


def test_a_held_loop_is_looked_at_twice(
    ends: Ends, report: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a heartbeat within the limit, nor within the time for another look, it is ended."""
    monkeypatch.setattr(_watchdog, "RECHECK_AFTER", 0.01)
    watchdog(report, hang_limit=0.01)
    assert ends.codes.get(timeout=SOON) == THREAD.exit_code
    assert text_of(report).startswith("the event loop is held for")


@pytest.mark.parametrize(("verdict", "code"), [(None, LOOP.exit_code), (4, 4)])
def test_a_verdict_is_kept(verdict: int | None, code: int, ends: Ends, report: int) -> None:
    """The exit code is the step's, unless the program's is known already."""
    watching = watchdog(report)
    watching.verdict = verdict
    watching.end_process(LOOP)
    assert ends.codes.get_nowait() == code


def test_a_description_that_fails(ends: Ends, report: int) -> None:
    """The parts before the fault are in the report, and the process ends all the same."""

    def describe() -> Iterator[str]:
        yield "the first part\n"
        raise MemoryError

    watching = watchdog(report)
    watching.attach(lambda _: None, describe)
    watching.end_process(LOOP)
    assert "the first part\n\nthe rest cannot be told: MemoryError\n" in text_of(report)


def test_a_description_that_takes_too_long(
    ends: Ends, report: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step does not wait for it longer than it can."""
    monkeypatch.setattr(_watchdog, "DESCRIBED_WITHIN", 0.01)
    monkeypatch.setattr(_watchdog, "DESCRIBED_AT_LEAST", 0.01)
    goes_on = threading.Event()

    def describe() -> Iterator[str]:
        goes_on.wait()
        yield "too late"

    watching = watchdog(report)
    watching.attach(lambda _: None, describe)
    watching.end_process(LOOP)
    goes_on.set()
    assert ends.codes.get_nowait() == LOOP.exit_code
    assert "the rest takes too long to tell\n" in text_of(report)


def test_a_step_that_acts_late_waits_less(
    ends: Ends, report: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for a description ends by the step's time, so that the next step does not act."""
    monkeypatch.setattr(_watchdog, "DESCRIBED_WITHIN", 3600.0)
    monkeypatch.setattr(_watchdog, "DESCRIBED_AT_LEAST", 0.01)
    goes_on = threading.Event()

    def describe() -> Iterator[str]:
        yield "the first part\n"
        goes_on.wait()

    watching = watchdog(report, budget=-3600.0 - THREAD.after)
    watching.attach(lambda _: None, describe)
    watching.begin_stop()
    assert ends.codes.get(timeout=SOON) == THREAD.exit_code
    goes_on.set()
    assert "the first part\n\nthe rest takes too long to tell\n" in text_of(report)
