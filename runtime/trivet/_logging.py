"""The program's log: structlog, to standard error, as text or as JSON lines.

Owns the processors. What a client has sent can neither begin a line of its own nor colour one.
Never knows what is logged. An embedder configures structlog as he likes, and leaves this alone.
"""

from __future__ import annotations

import logging
import sys
from io import StringIO
from textwrap import indent
from typing import TextIO
from unicodedata import category

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from ._envelope import in_hand
from ._settings import LogSettings

_WRITTEN_OUT = {
    number: ascii(chr(number))[1:-1]
    for number in (*range(0xA0), 0x2028, 0x2029)
    if category(chr(number)) in ("Cc", "Zl", "Zp")
}
"""What moves the cursor, ends a line or commands a terminal, as Python would write it."""
_ALSO_IN_LINES = {number: text for number, text in _WRITTEN_OUT.items() if chr(number) != "\n"}


def configure_logging(settings: LogSettings) -> None:
    """Set structlog up for a program of its own."""
    rendering: list[Processor]
    if settings.format == "json":
        # Without locals: they hold secrets.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        rendering = [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(),
        ]
    else:
        rendering = [
            _write_out,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=_write_traceback,
                sort_keys=False,
            ),
        ]
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_delivery,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _add_delivery(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Say which event a line is about, when it is written while one is in hand."""
    delivery = in_hand.get()
    return event_dict if delivery is None else {**delivery.identity(), **event_dict}


def _write_out(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Write out the control characters in values; a stack is ours, and has lines."""
    return {
        key: value.translate(_WRITTEN_OUT) if isinstance(value, str) and key != "stack" else value
        for key, value in event_dict.items()
    }


def _write_traceback(file: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback with its lines indented: an exception's message may have several."""
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    file.write(indent(text.getvalue().translate(_ALSO_IN_LINES), "    "))
