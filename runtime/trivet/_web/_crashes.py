"""Crashes of handlers: which part of an error is a plugin's fault, and the answer to it.

Owns the choice between a fault and a cancellation, the log line of a crash, and its problem.
Never knows which handler crashed, nor how its client is answered.
"""

from __future__ import annotations

import structlog

from .._faults._advice import explained
from .._faults._containment import includes, split_cancelled
from .._runtime import Runtime
from ._context import current_context
from ._problems import ProblemError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def separate(
    error: BaseException, runtime: Runtime
) -> tuple[BaseException | None, BaseException | None]:
    """The cancellation in an error, which has to go on, and the fault in it, to be contained.

    It is to be called where the error was caught.

    Raises:
        KeyboardInterrupt: there is one in the error, and it is not the plugin's.
    """
    cancelled, fault = split_cancelled(error)
    if includes(fault, KeyboardInterrupt) and not runtime.contains_interrupts:
        if isinstance(error, KeyboardInterrupt):
            raise error
        # Quart and hypercorn contain groups, whatever is in them.
        raise KeyboardInterrupt from error
    return cancelled, fault


def fault_of(error: BaseException, runtime: Runtime) -> BaseException:
    """The fault in an error; it is to be called where the error was caught.

    Raises:
        BaseException: the error has to go on, as in `separate`. A fault beside it is logged.
    """
    cancelled, fault = separate(error, runtime)
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
