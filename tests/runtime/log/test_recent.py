"""The lines of plugins that are kept for their operators."""

from __future__ import annotations

import io

import structlog

from trivet import LogSettings
from trivet._log._logging import configure_logging
from trivet._log._recent import KEPT, LONGEST, MOST, Line, Recent, recent


def test_the_last_lines_of_each_plugin_are_kept() -> None:
    """The last hundred lines of each plugin are kept, each by its beginning."""
    kept = Recent()
    for number in range(KEPT + 20):
        kept.keep("till", "info", f"line {number}")
    kept.keep("shop", "error", "x" * (LONGEST + 1))
    kept.keep(None, "info", "nobody's")
    assert [line.text for line in kept.of("till")] == [f"line {20 + n}" for n in range(KEPT)]
    assert kept.of("shop") == [Line("error", "x" * LONGEST)]
    assert kept.of("other") == []


def test_names_are_bounded() -> None:
    """An author who logs with ever new names costs a bounded amount of memory."""
    kept = Recent()
    for number in range(MOST + 10):
        kept.keep(f"plugin {number}", "info", "a line")
    assert kept.of(f"plugin {MOST - 1}") != []
    assert kept.of(f"plugin {MOST}") == []


def test_the_log_keeps_lines_without_colours() -> None:
    """A line is kept as it is written, but without the colours of a terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = Terminal()
    configure_logging(LogSettings(), file)
    structlog.get_logger(plugin="test_of_recent").warning("no paper", drawer=2)
    (line,) = recent.of("test_of_recent")
    assert line.level == "warning"
    assert "no paper" in line.text
    assert "\x1b" in file.getvalue()
    assert "\x1b" not in line.text
