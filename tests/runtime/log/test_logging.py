"""Lines of the log whose values are long: they are cut, and hold nobody."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from time import thread_time
from typing import Any

import pytest
import structlog

from trivet import LogSettings
from trivet._faults._containment import one_line, summary
from trivet._faults._masking import LONGEST, Secrets, forget, know, mask
from trivet._log._logging import configure_logging


class Owner:
    """An owner of secrets."""


@pytest.fixture(params=["console", "json"])
def logged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """The text that is written to the log of `trivet serve`, where some secrets are known."""
    owner, secrets = Owner(), Secrets()
    for number in range(30):
        secrets.add(f"t0ken-of-the-receiver-{number}")
    know(owner, secrets)
    mask("")  # The forms are prepared once.
    written = StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging(LogSettings(level="debug", format=request.param))
    yield written
    structlog.reset_defaults()
    forget(owner)


LOOP_LIMIT = 0.05
"""Seconds of processor time for which no client's data may hold the event loop."""
LONG = "a text of a client " * 550_000


def log_message(log: Any) -> None:
    """Log a text as the message."""
    log.info(LONG)


def log_value(log: Any) -> None:
    """Log a text as a value."""
    log.info("received", text=LONG)


def log_error(log: Any) -> None:
    """Log an exception with a text."""
    log.error("failed", exc_info=ValueError(LONG))


def say_error(log: Any) -> None:
    """Make lines of an exception."""
    error = ValueError(LONG)
    assert len(summary(error)) < 2 * LONGEST
    assert len(one_line(error)) < 1000


@pytest.mark.parametrize("show", [log_message, log_value, log_error, say_error])
def test_a_long_text_does_not_hold_the_loop(logged: StringIO, show: Callable[[Any], None]) -> None:
    """Ten megabytes of text that a client has sent are shown in a fraction of a turn, and cut."""
    log = structlog.get_logger()
    begun = thread_time()
    show(log)
    assert thread_time() - begun < LOOP_LIMIT
    written = logged.getvalue()
    assert len(written) < 2 * LONGEST
    assert not written or " more characters" in written


def test_a_line_that_is_too_long_is_written_short(logged: StringIO) -> None:
    """A line of many long values has their beginnings, and says why."""
    structlog.get_logger().info("received", texts=[LONG[:LONGEST]] * 20, number=1)
    written = logged.getvalue()
    assert len(written) < 2 * LONGEST
    assert "the line has" in written
    if written.startswith("{"):
        assert json.loads(written)["event"] == "received"
