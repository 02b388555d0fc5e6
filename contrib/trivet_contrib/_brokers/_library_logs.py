"""Log records of a broker's library about our own connections, which are left out.

A library logs, often with a traceback, an error that it also raises; the plugin logs that error in
one line. Records about an embedder's own connections pass.
Owns the mark that tells our calls, and the tasks that they start, from everybody else's.
Never knows a particular library.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

_IS_OURS = ContextVar("trivet_contrib_is_ours", default=False)


@contextmanager
def our_calls() -> Generator[None]:
    """Mark the calls in the block, and the tasks that they start, as ours."""
    token = _IS_OURS.set(True)
    try:
        yield
    finally:
        _IS_OURS.reset(token)


@contextmanager
def our_records_left_out(*loggers: str) -> Generator[None]:
    """Leave out of these loggers, until the block ends, the records of marked calls.

    Args:
        loggers: full names. A filter does not hold for the loggers below.
    """

    def is_of_others(_: logging.LogRecord) -> bool:
        return not _IS_OURS.get()

    with ExitStack() as stack:
        for logger in map(logging.getLogger, loggers):
            logger.addFilter(is_of_others)
            stack.callback(logger.removeFilter, is_of_others)
        yield
