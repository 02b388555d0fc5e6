"""The monitoring of requests: LUNA's two series, published for the plugins that listen.

Owns the points of a request, and how long their publishing may take.
Never knows how a request is answered.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime

import structlog
import trio

from .._events._delivery import Origin
from .._events._event import MonitoringEvent, MonitoringPoint, Value
from .._runtime import Runtime

PUBLISH_TIMEOUT = 2.0
"""Seconds for publishing a request's points, also if the stop has cut the request off: twice the
default of `block_for`."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def request_points(
    tags: dict[str, Value], time: datetime, request_id: str, taken: float | None, error: str | None
) -> list[MonitoringPoint]:
    """The points of one request: `requests`, and for a failure `errors` too.

    Args:
        tags: the tags of both.
        time: the moment at which the request began.
        request_id: the request's.
        taken: seconds until its end; None for a websocket, which is measured by its failures only.
        error: the error code; None for a success.
    """
    points: list[MonitoringPoint] = []
    if taken is not None:
        fields: dict[str, Value] = {"request_id": request_id, "execution_time": taken}
        points.append(MonitoringPoint("requests", time, tags, fields))
    if error is not None:
        fields = {"request_id": request_id, "error_code": error}
        points.append(MonitoringPoint("errors", time, tags, fields))
    return points


class Monitoring:
    """The monitoring of one program's requests.

    Args:
        runtime: the program.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def is_on(self) -> bool:
        """Whether a plugin listens to the points; a reload may change it."""
        return self._runtime.listens(MonitoringEvent)

    def publish(self, points: list[MonitoringPoint], origin: Origin) -> Awaitable[None] | None:
        """Publish the points of a request; returns the wait that has to follow, if any.

        Args:
            points: the request's.
            origin: the request.
        """
        wait = self._runtime.offer(MonitoringEvent(points), origin) if points else None
        return None if wait is None else _bounded(wait)


async def _bounded(wait: Awaitable[object]) -> None:
    with trio.move_on_after(PUBLISH_TIMEOUT, shield=True) as publishing:
        await wait
    if publishing.cancelled_caught:
        _log.warning("monitoring points lost: an inbox is full", after=PUBLISH_TIMEOUT)
