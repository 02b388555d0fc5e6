"""The acceptance of connections, for as long as the socket listens.

Owns the pause while the process has no descriptor or memory for another connection, and the
difference between that and a socket that is gone.
Never knows what a connection is for.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import structlog
import trio

from ..._faults._errors import ListenerLostError

StreamT = TypeVar("StreamT", bound=trio.abc.AsyncResource)

RETRY_INTERVAL = 0.1
"""Seconds between two attempts while nothing can be accepted."""
QUIET_PERIOD = 10.0
"""Seconds without a failure after which the next one is logged again."""
FATAL_ERRNOS = frozenset({errno.EBADF, errno.ENOTSOCK, errno.EINVAL, errno.EOPNOTSUPP})
"""Errors of a socket that does not listen any more. Others are temporary: descriptors or memory ran
out."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


async def accept_all(
    listener: trio.abc.Listener[StreamT],
    handle: Callable[[StreamT], Awaitable[None]],
    nursery: trio.Nursery,
    *,
    url: str,
) -> NoReturn:
    """Accept connections until this is cancelled; each is closed when its handler has ended.

    Args:
        listener: the listening socket.
        handle: called with each connection, in a task of its own.
        nursery: the nursery of these tasks.
        url: the listener's, for messages.

    Raises:
        ListenerLostError: the socket does not listen any more.
    """
    failed_at = -QUIET_PERIOD
    while True:
        try:
            stream = await listener.accept()
        except (OSError, trio.ClosedResourceError) as error:
            number = error.errno if isinstance(error, OSError) else errno.EBADF
            reason = os.strerror(number or 0)
            if number in FATAL_ERRNOS:
                message = f"{url} does not listen any more: {reason}; its socket was closed"
                raise ListenerLostError(message) from error
            if trio.current_time() - failed_at >= QUIET_PERIOD:
                _log.error("no connection can be accepted for now", url=url, reason=reason)
            failed_at = trio.current_time()
            await trio.sleep(RETRY_INTERVAL)
        else:
            nursery.start_soon(_handle_and_close, handle, stream)


async def _handle_and_close(handle: Callable[[StreamT], Awaitable[None]], stream: StreamT) -> None:
    try:
        await handle(stream)
    finally:
        await trio.aclose_forcefully(stream)
