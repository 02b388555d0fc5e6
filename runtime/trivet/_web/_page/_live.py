"""The live state: one look at the program each second, whoever watches, and what has changed.

Owns the streams of server-sent events, and the form of a difference: a JSON merge patch, as in
RFC 7396, in which null says that a member is gone.
Never knows the state's facts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import msgspec
import trio

from ..._runtime import Runtime
from .._fast_path import SendPart
from ._series import EVERY, Series
from ._state import States

PACE = 1.0
"""Seconds between two looks."""
SHARE = 0.005
"""The share of a processor that the looks may take: with many plugins they come less often."""

LASTS = 300.0
"""Seconds after which a browser has to ask anew, and to show a token that is still good."""


class Live:
    """The state of a program while somebody watches.

    Args:
        runtime: the program.
        series: its curves.
    """

    def __init__(self, runtime: Runtime, series: Series) -> None:
        self._runtime = runtime
        self._series = series
        self._states = States(runtime, series)
        self._state: dict[str, Any] = {}
        self._number = 0
        """The number of looks so far."""
        self._change = b""
        """The difference between the last two looks, as an event."""
        self._due = -math.inf

    def state(self) -> Mapping[str, Any]:
        """The state, which is a second old at most, or what the pace allows."""
        now = trio.current_time()
        if now >= self._due:
            began = perf_counter()
            self._series.sample()
            state = self._states.make()
            changed = difference(self._state, state)
            self._change = event("change", changed)
            self._state, self._number = state, self._number + 1
            self._due = now + max(PACE, (perf_counter() - began) / SHARE)
        return self._state

    async def watch(self, client: Mapping[str, object], send: SendPart) -> None:
        """Send the state, and then what changes, until the program stops, or `LASTS` is over.

        Args:
            client: what the client may do, which is a member of the state.
            send: sends a part of the stream.
        """
        seen = sampled = -1
        until = trio.current_time() + LASTS
        while not self._runtime.stopping.is_set():
            if trio.current_time() >= until:
                await send(event("again", {}))
                return
            state, series = self.state(), self._series
            parts: list[bytes] = []
            if self._number == seen + 1 and seen >= 0:
                parts.append(self._change)
            elif self._number != seen:
                parts.append(event("state", {**state, "client": client}))
            if series.number == sampled + 1 and sampled >= 0:
                parts.append(event("sample", series.described_last()))
            elif series.number != sampled:
                parts.append(event("series", {"every": EVERY, "plugins": series.described()}))
            seen, sampled = self._number, series.number
            if parts:
                await send(b"".join(parts))  # The program may be looked at meanwhile.
            with trio.move_on_at(self._due):
                await self._runtime.stopping.wait()
        await send(event("stopping", self._stop()))

    def _stop(self) -> Mapping[str, float]:
        """The seconds that are left to requests, to inboxes, and to the closing of plugins."""
        plan, now = self._runtime.begin_stop(), trio.current_time()
        return {
            "requests": round(max(0.0, plan.requests_until - now), 1),
            "inboxes": round(max(0.0, plan.drain_until - now), 1),
            "plugins": round(max(0.0, plan.close_until(plan.levels - 1) - now), 1),
        }


def event(name: str, document: object) -> bytes:
    r"""A server-sent event.

    >>> event("sample", {"till": [0, 1]})
    b'event: sample\ndata: {"till":[0,1]}\n\n'
    """
    return b"event: %s\ndata: %s\n\n" % (name.encode("ascii"), msgspec.json.encode(document))


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that makes of a document another one, which has no null in it.

    >>> difference({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 2, "d": 4}, "e": [5]})
    {'b': {'d': 4}, 'e': [5], 'a': None}
    """
    changed: dict[str, Any] = {}
    for name, value in now.items():
        was = before.get(name)
        if value == was:
            continue
        if isinstance(value, dict) and isinstance(was, dict):
            changed[name] = difference(was, value)  # pyright: ignore[reportUnknownArgumentType]
        else:
            changed[name] = value
    return changed | dict.fromkeys(before.keys() - now.keys())
