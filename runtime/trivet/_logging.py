"""The program's log: structlog, to standard error, as text or as JSON lines.

Owns the processors.
Never knows what is logged. An embedder configures structlog as he likes, and leaves this alone.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ._envelope import delivery_in_hand
from ._settings import LogSettings


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
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
                sort_keys=False,
            )
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
    delivery = delivery_in_hand()
    return event_dict if delivery is None else {**delivery.identity(), **event_dict}
