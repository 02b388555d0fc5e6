"""What may go on from a request, and what is the fault of the plugin that answers it.

Owns the choice between the two.
Never knows what the client is told.
"""

from __future__ import annotations

import structlog

from .._faults._advice import explained
from .._faults._containment import includes, split_cancelled
from .._runtime import Runtime
from ._exchange import current_exchange

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def separate(
    error: BaseException, runtime: Runtime
) -> tuple[BaseException | None, BaseException | None]:
    """The part of an error that has to go on to a cancelled scope, and the part to be contained.

    To be called where the error was caught.

    Raises:
        KeyboardInterrupt: there is one in the error, and it is not the plugin's.
    """
    cancelled, fault = split_cancelled(error)
    if includes(fault, KeyboardInterrupt) and not runtime.contains_interrupts:
        if isinstance(error, KeyboardInterrupt):
            raise error
        raise KeyboardInterrupt from error  # Quart and hypercorn contain groups, whatever is in.
    return cancelled, fault


def crash_of(error: BaseException, runtime: Runtime) -> BaseException:
    """What of an error has to be answered for; to be called where it was caught.

    Raises:
        BaseException: what has to go on, as in `separate`. A fault beside it is logged.
    """
    cancelled, fault = separate(error, runtime)
    if cancelled is not None:
        if fault is not None:
            log_crash(fault)
        raise cancelled from None
    assert fault is not None
    return fault


def log_crash(fault: BaseException) -> None:
    """Say who has failed to answer the request at hand, and how."""
    exchange = current_exchange()
    _log.error(
        "handler crashed", route=exchange.route, plugin=exchange.plugin, exc_info=explained(fault)
    )
