"""Crashes of handlers: which part of an error is a plugin's fault, and the answer to it.

Owns the choice between a fault and a cancellation, the log line of a crash, and its problem.
Never knows which handler crashed, nor how its client is answered.
"""

from __future__ import annotations

import structlog

from .._faults._advice import explained
from .._faults._containment import split_failure
from .._runtime import Runtime
from ._context import current_context
from ._problems import ProblemError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def fault_of(error: BaseException, runtime: Runtime) -> BaseException:
    """The fault in an error; it is to be called where the error was caught.

    Raises:
        BaseException: the error is a cancellation, or the operator's interrupt, and has to go on.
            A fault beside it is logged.
    """
    cancelled, fault = split_failure(error, contains_interrupts=runtime.contains_interrupts)
    if cancelled is not None:
        if fault is not None:
            report_crash(fault)
        raise cancelled from None
    assert fault is not None
    return fault


def report_crash(fault: BaseException) -> ProblemError:
    """Log that the handler of the current request crashed; returns the answer to the request."""
    context = current_context()
    _log.error(
        "handler crashed", route=context.route, plugin=context.plugin, exc_info=explained(fault)
    )
    return ProblemError("internal_error", "the handler crashed")
