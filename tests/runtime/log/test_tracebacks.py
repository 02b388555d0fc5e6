"""Tracebacks in the log: an author's lines are shown, and those of libraries are folded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from io import StringIO

import pytest
import structlog
import trio

from trivet import Event, EventPlugin, LogSettings
from trivet._log._logging import configure_logging
from trivet._log._tracebacks import formatted
from trivet.testing import client, open_plugins

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Placed(Event):
    pass


class Billing(EventPlugin[Placed]):
    async def handle_event(self, event: Placed) -> None:
        self.log.info("billing")


def of(function: Callable[[], object]) -> str:
    """The traceback of what a function raises."""
    try:
        function()
    except BaseException as error:  # noqa: ASYNC103 - a sync function's
        return formatted(type(error), error, error.__traceback__)  # noqa: ASYNC104
    raise AssertionError


def fail() -> None:
    """Raise, in an author's line."""
    raise ValueError("spilled")


def through_a_library() -> None:
    """Have a library call an author's function that fails."""
    json.loads("{}", object_hook=lambda _: fail())


def in_a_library() -> None:
    """Have a library fail, some calls below an author's line."""
    json.loads("{")


def test_the_calls_of_libraries_are_counted() -> None:
    """The author's lines are shown, with the calls between them; others are a number."""
    text = of(through_a_library)
    assert "in through_a_library" in text
    assert "raise ValueError" in text
    assert "in raw_decode" in text
    assert "in loads" not in text
    assert " more\n" in text


def test_the_line_that_raised_is_shown() -> None:
    """The innermost line is shown, whoever has written it."""
    text = of(in_a_library)
    assert "in in_a_library" in text
    assert "in raw_decode" in text
    assert "in loads" not in text


def test_a_traceback_without_an_author_is_whole() -> None:
    """Nothing is folded where no line is an author's."""
    text = ""
    try:
        json.loads("{")
    except ValueError as error:
        trace = error.__traceback__
        assert trace is not None
        text = formatted(type(error), error, trace.tb_next)
    assert "in loads" in text
    assert "in decode" in text


def test_a_group_is_a_tree_of_folded_tracebacks() -> None:
    """The members of a group, and the causes of an error, are folded too."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, fail)
            nursery.start_soon(trio.to_thread.run_sync, fail)

    text = of(lambda: trio.run(main))
    assert text.count("ValueError: spilled") == 2
    assert "+---------------- 2 ----------------" in text
    assert "unrolled_run" not in text


def test_an_error_that_is_its_own_cause() -> None:
    """A circle of causes ends."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert "first" in formatted(ValueError, first, None)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """The lines of the log, as JSON."""
    written = StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging(LogSettings(format="json"))
    return written


@pytest.mark.parametrize("by_request", [False, True])
async def test_a_line_names_the_trace(lines: StringIO, by_request: bool) -> None:
    """A line about an event, or a request, has the id of its trace."""
    traceparent = f"00-{TRACE}-00f067aa0ba902b7-01"
    try:
        async with open_plugins(Billing) as runtime:
            if by_request:
                headers = {"traceparent": traceparent}
                await client(runtime).post("/events/placed?wait=true", json={}, headers=headers)
            else:
                await runtime.publish(Placed(), wait=True, traceparent=traceparent)
    finally:
        structlog.reset_defaults()
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [each["trace_id"] for each in said if each["event"] == "billing"] == [TRACE]
