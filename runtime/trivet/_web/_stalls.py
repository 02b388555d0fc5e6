"""The last times that a plugin held the event loop for too long, for an operator.

Owns the form of the list.
Never knows how a stall is noticed, nor what is in a profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from time import perf_counter

from .._events._delivery import utc_now
from .._loop._kept_stalls import Stall
from .._runtime import Runtime
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints, Text
from ._problems import ProblemError


def add_stalls(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `/-/stalls` and the profiles below, for an operator."""

    async def stalls(_: EndpointRequest) -> EndpointResponse:
        """The last stalls of the event loop, the latest first: the plugin, when, and how long."""
        kept = () if runtime.meter is None else runtime.meter.kept.all()
        return {"stalls": [_described(each) for each in reversed(kept)]}, 200

    async def stall(request: EndpointRequest) -> EndpointResponse:
        """The profile of one stall, in the file format of speedscope."""
        number = request.variable
        found = None
        if runtime.meter is not None and number.isascii() and number.isdecimal():
            found = runtime.meter.kept.get(int(number[:20]))
        if found is None:
            raise ProblemError("unknown_stall", f"no stall {number!r} is kept")
        return Text("application/json", found.document), 200

    fast_path.add("GET", "/-/stalls", "admin", stalls)
    fast_path.add("GET", "/-/stalls/<number>", "admin", stall)


def _described(stall: Stall) -> Mapping[str, object]:
    return {
        "number": stall.number,
        "plugin": stall.plugin,
        "began": utc_now() - timedelta(seconds=perf_counter() - stall.began),
        "seconds": stall.seconds,
        "doing": stall.doing,
        "task": stall.task,
        "at": stall.at,
    }
