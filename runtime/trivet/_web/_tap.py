"""A tap: what an operator looks at while events pass, and a bound on what that costs.

Owns the choice of the events that are shown, and the count of those that are not.
Never knows who looks, nor how the events come here.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from zlib import crc32

import attrs
import msgspec

from .._events._delivery import Delivery, utc_now
from .._events._event import Event
from .._events._fates import Fate
from .._events._filters import Matches
from .._events._history import FIRST, History
from ._envelopes import describe_envelope, describe_payload

PERIOD = 0.1
"""Seconds between two parts of the stream."""
ROOM = 100
"""Events of one part, at most."""
BUDGET = 0.002
"""Seconds of the processor that a tap takes for one part; with one more event, it may be more."""


@attrs.define(eq=False)
class Tap:
    """The events that one operator looks at, until they are taken."""

    event: str | None = None
    """The name of the only event type; None for all."""
    matches: Matches | None = None
    """Chooses by the payload."""
    sample: float = 1.0
    """The share of the events that are shown. All that is told of one event is, or nothing."""
    with_payload: bool = False
    """Whether payloads are shown."""
    _shown: list[bytes] = attrs.field(init=False, factory=list[bytes])
    _spent: float = attrs.field(init=False, default=0.0)
    _missed: int = attrs.field(init=False, default=0)

    def see(self, delivery: Delivery[Event]) -> None:
        """Look at an event that is published."""
        self._see(delivery, dict)

    def see_fate(
        self, plugin: str, delivery: Delivery[Event], fate: Fate, history: History = FIRST
    ) -> None:
        """Look at what has become of an event at a plugin."""

        def facts() -> dict[str, object]:
            found: dict[str, object] = {"plugin": plugin, "fate": fate, "at": utc_now()}
            if history.failures and fate is not Fate.HANDLED:
                found["error"] = history.failures[-1].error
            if fate is Fate.BACKING_OFF:
                found["retry_in"] = round(history.last_wait, 3)
            return found

        self._see(delivery, facts)

    def _see(self, delivery: Delivery[Event], facts: Callable[[], dict[str, object]]) -> None:
        if self.event is not None and delivery.event.__event_name__ != self.event:
            return
        if self.sample < 1.0 and not is_sampled(delivery.id, self.sample):
            return
        if len(self._shown) >= ROOM or self._spent >= BUDGET:
            self._missed += 1
            return
        began = thread_time()
        try:
            if self.matches is None or self.matches(delivery.event):
                self._shown.append(self._described(delivery, facts()))
        except Exception:  # A value of the author's cannot be compared.
            self._missed += 1
        self._spent += thread_time() - began

    def _described(self, delivery: Delivery[Event], facts: dict[str, object]) -> bytes:
        payload = describe_payload(delivery.event) if self.with_payload else {}
        return msgspec.json.encode({**describe_envelope(delivery), **facts, **payload})

    def take(self) -> tuple[list[bytes], int]:
        """The events since the last call, as JSON, and the number of those that are not shown."""
        shown, missed = self._shown, self._missed
        self._shown, self._missed, self._spent = [], 0, 0.0
        return shown, missed


def is_sampled(id: str, sample: float) -> bool:
    """Whether an event is in a sample, by its id.

    >>> is_sampled("o-1", 1.0), is_sampled("o-1", 1e-9)
    (True, False)
    """
    return crc32(id.encode("utf-8", "surrogatepass")) < sample * 2**32
