"""`GET /-/tap`: the events of the program, or what becomes of those of a plugin, as they pass.

Owns the query, the stream of server-sent events, and how many of them there are at once.
Never knows which events are shown, nor what that costs: that is the tap's.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import attrs
import msgspec
import trio

from .._access._tokens import Token
from .._delivery._bounded import BoundedInbox
from .._events._filters import Matches, check_filter, compile_filter
from .._faults._containment import open_transparent_nursery
from .._faults._errors import ConfigurationError, nearest
from .._runtime import Runtime
from ._context import current_context
from ._doors import Doors
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints, SendPart, Stream
from ._page._live import event as as_event
from ._problems import ProblemError
from ._tap import PERIOD, Tap

TAPS = 4
"""Taps at once."""
_TOO_MANY = f"{TAPS} taps are open, and there may be no more"
KEEP_ALIVE_INTERVAL = 15.0
"""Seconds without an event after which a comment is sent; many proxies close after 60."""
SEND_TIMEOUT = 10.0
"""Seconds that a client may take for one part; then its tap is closed, and its place is free."""
HEADERS = [
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events before it passes them on.
]


def add_taps(fast_path: Endpoints, runtime: Runtime, doors: Doors) -> None:
    """Serve `/-/tap`, for an operator with a token for `admin`."""
    taps = Taps(runtime, doors)

    async def tap(request: EndpointRequest) -> EndpointResponse:
        """The events that are published, as they pass, as server-sent events.

        With `plugin`, these are the ends of its attempts, with the fate of the event. A tap shows
        what its bounds allow, and counts the others.
        """
        if taps.count >= TAPS:
            raise ProblemError("too_many_taps", _TOO_MANY)
        chosen = taps.chosen(request)
        work = partial(taps.watch, chosen, current_context().caller.token)
        return Stream("text/event-stream", HEADERS, work), 200

    fast_path.add("GET", "/-/tap", "admin", tap)


@attrs.frozen
class Chosen:
    """The choice of a request."""

    tap: Tap
    plugin: str | None


class Taps:
    """The taps of a program.

    Args:
        runtime: the program.
        doors: know which tokens are good.
    """

    def __init__(self, runtime: Runtime, doors: Doors) -> None:
        self._runtime = runtime
        self._doors = doors
        self.count: int = 0
        """The number of open taps."""

    def chosen(self, request: EndpointRequest) -> Chosen:
        """The choice that the query makes."""
        runtime, event, plugin = self._runtime, request.query("event"), request.query("plugin")
        if event is not None and event not in runtime.events:
            detail = f"there is no event type {event!r}; {nearest(event, runtime.events)}"
            raise ProblemError("unknown_event", detail)
        inboxes = runtime.hosting.inboxes
        if plugin is not None and plugin not in inboxes:
            detail = f"no plugin {plugin!r} listens to events; {nearest(plugin, inboxes)}"
            raise ProblemError("unknown_plugin", detail)
        tap = Tap(event, self._filter(request, event), _sample(request), _truth(request, "payload"))
        return Chosen(tap, plugin)

    def _filter(self, request: EndpointRequest, event: str | None) -> Matches | None:
        """The filter, of which each value may be meant as text, or as JSON."""
        wanted: dict[str, list[object]] = {}
        for each in request.queries("filter"):
            path, equals, value = each.partition("=")
            if not (path and equals):
                detail = f"`filter` is FIELD=VALUE, as in `order_id=o-1`, and not {each!r}"
                raise ProblemError("invalid_query", detail)
            wanted.setdefault(path, []).extend(_meanings(value))
        if not wanted:
            return None
        events = self._runtime.events
        try:
            check_filter(wanted, events.types if event is None else [events[event]])
        except ConfigurationError as error:
            raise ProblemError("invalid_query", f"`filter`: {error}") from error
        return compile_filter(wanted)

    async def watch(self, chosen: Chosen, token: Token | None, send: SendPart) -> None:
        """Send what passes, until the program stops, the plugin leaves it, or the token ends.

        A client that does not read what is sent is left.

        Args:
            chosen: the events.
            token: the token of the operator who looks on.
            send: sends a part of the stream.
        """
        stopping = self._runtime.stopping
        inbox = self._inbox_of(chosen)
        sent = partial(self._sent, send, token)
        if self.count >= TAPS:  # Others have come at the same moment.
            await sent(as_event("end", {"reason": _TOO_MANY}))
            return
        with self._open(chosen, inbox):
            part, why = as_event("open", {"event": chosen.tap.event, "plugin": chosen.plugin}), None
            quiet_since = trio.current_time()
            while why is None:
                if part:
                    if not await sent(part):
                        return
                    quiet_since = trio.current_time()
                with trio.move_on_after(PERIOD):
                    await stopping.wait()
                why = self._end(chosen, inbox, token)
                part = _part(chosen.tap)
                if not part and trio.current_time() - quiet_since >= KEEP_ALIVE_INTERVAL:
                    part = b": keep-alive\n\n"
        await sent(part + as_event("end", {"reason": why}))

    async def _sent(self, send: SendPart, token: Token | None, part: bytes) -> bool:
        """Send a part; returns False if the client did not take it while it might."""
        with trio.move_on_after(SEND_TIMEOUT) as sending:
            async with open_transparent_nursery() as nursery:
                nursery.start_soon(self._cut_off, sending, token)
                await send(part)
        return not sending.cancelled_caught

    async def _cut_off(self, sending: trio.CancelScope, token: Token | None) -> None:
        """Cancel what is sent for a token that is no longer good."""
        while True:
            await trio.sleep(PERIOD)
            if self._refusal(token) is not None:
                sending.cancel()

    def _inbox_of(self, chosen: Chosen) -> BoundedInbox | None:
        return None if chosen.plugin is None else self._runtime.hosting.inboxes.get(chosen.plugin)

    @contextmanager
    def _open(self, chosen: Chosen, inbox: BoundedInbox | None) -> Generator[None]:
        tap = chosen.tap
        placed: AbstractContextManager[None] = (
            self._runtime.tapped(tap.see)
            if inbox is None or chosen.plugin is None
            else inbox.watched(partial(tap.see_fate, chosen.plugin))
        )
        self.count += 1
        try:
            with placed:
                yield
        finally:
            self.count -= 1

    def _end(self, chosen: Chosen, inbox: BoundedInbox | None, token: Token | None) -> str | None:
        """The reason why a tap ends; None while it does not."""
        if self._runtime.stopping.is_set():
            return "the service stops"
        if self._inbox_of(chosen) is not inbox:
            return f"plugin {chosen.plugin!r} is no longer active"
        return self._refusal(token)

    def _refusal(self, token: Token | None) -> str | None:
        """The reason why the operator may look on no longer; None while it may."""
        tokens = self._doors.tokens
        if token is None:
            return "a token is needed now" if tokens else None
        is_good = tokens.named(token.name) is token
        return None if is_good else f"the token {token.name!r} is no longer good"


def _part(tap: Tap) -> bytes:
    """The events that a tap has collected; empty where there are none."""
    shown, missed = tap.take()
    parts = [b"event: event\ndata: %s\n\n" % each for each in shown]
    if missed:
        parts.append(as_event("not_shown", {"count": missed}))
    return b"".join(parts)


def _meanings(value: str) -> list[object]:
    """The meanings of a value in a query.

    >>> _meanings("12"), _meanings("green tea")
    (['12', 12], ['green tea'])
    """
    try:
        return [value, msgspec.json.decode(value)]
    except (ValueError, RecursionError):
        return [value]


def _sample(request: EndpointRequest) -> float:
    text = request.query("sample")
    if text is None:
        return 1.0
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise ProblemError("invalid_query", "`sample` is above 0, and at most 1")
    return share


def _truth(request: EndpointRequest, name: str) -> bool:
    text = request.query(name)
    if text not in (None, "true", "false"):
        raise ProblemError("invalid_query", f"`{name}` is true or false")
    return text == "true"
