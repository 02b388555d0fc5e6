"""The level of one plugin's lines."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from trivet import LogSettings
from trivet._log._levels import Levels, levels_in_use
from trivet._log._logging import configure_logging


@pytest.fixture
def written() -> Iterator[StringIO]:
    """The text that is written to the log of `trivet serve`."""
    before, text = structlog.get_config(), StringIO()
    configure_logging(LogSettings(level="info", format="json"), text)
    yield text
    structlog.configure(**before)


def lines(written: StringIO) -> list[str]:
    """The lines' texts since the last call."""
    found = [line.split('"event": "')[1].split('"')[0] for line in written.getvalue().splitlines()]
    written.seek(0)
    written.truncate()
    return found


def levels() -> Levels:
    """The levels of the log."""
    found = levels_in_use()
    assert found is not None
    return found


def test_one_plugin_says_more(written: StringIO) -> None:
    """A plugin whose level is lowered logs more; the others, and other loggers, do not."""
    noisy: Any = structlog.get_logger(plugin="noisy")
    other: Any = structlog.get_logger(plugin="other")
    kept: Any = noisy.bind(part="kept from before")
    levels().set("noisy", "debug")
    for log, text in ((noisy, "a"), (other, "b"), (structlog.get_logger(), "c"), (kept, "d")):
        log.debug(text)
        log.info(text.upper())
    assert lines(written) == ["a", "A", "B", "C", "d", "D"]
    levels().set("noisy", None)
    for log in (noisy, kept):
        log.debug("e")
    assert lines(written) == []


def test_one_plugin_says_less(written: StringIO) -> None:
    """A plugin whose level is raised logs less; the others do not."""
    noisy: Any = structlog.get_logger(plugin="noisy")
    levels().set("noisy", "error")
    noisy.info("a")
    noisy.warning("b")
    noisy.error("c")
    try:
        raise ValueError("d")  # noqa: TRY301 - there has to be an exception
    except ValueError:
        noisy.exception("d")
    structlog.get_logger(plugin="other").info("e")
    assert lines(written) == ["c", "d", "e"]
    assert (levels().of("noisy"), levels().of("other")) == ("error", "info")


def test_a_line_never_raises(written: StringIO) -> None:
    """A line whose plugin is no name is logged, and a wrong call still does not raise."""
    levels().set("noisy", "debug")
    odd: Any = structlog.get_logger(plugin=["noisy"])
    odd.info("a")
    odd.info()
    found = lines(written)
    assert found[0] == "a"
    assert len(found) == 2


def test_settings_that_are_read_anew(written: StringIO) -> None:
    """A plugin keeps its level when the program's changes, and kept loggers have the new ones."""
    noisy: Any = structlog.get_logger(plugin="noisy").bind(part="kept")
    other: Any = structlog.get_logger(plugin="other").bind(part="kept")
    levels().set("noisy", "debug")
    configure_logging(LogSettings(level="error", format="json"), written)
    for log, text in ((noisy, "a"), (other, "b")):
        log.debug(text)
        log.error(text.upper())
    assert lines(written) == ["a", "A", "B"]
    assert (levels().of("noisy"), levels().of("other")) == ("debug", "error")


def test_a_log_that_is_not_ours(written: StringIO) -> None:
    """There are no levels where the code around Trivet has configured structlog."""
    structlog.configure(wrapper_class=structlog.BoundLogger)
    assert levels_in_use() is None
