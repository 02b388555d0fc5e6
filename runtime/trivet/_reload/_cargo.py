"""The events that wait while a program is exchanged: whether they fit, and how they go over.

Owns the classes that follow those of old event types, and the refusal of a reload after which an
event would not fit.
Never knows how plugins are exchanged, nor when.
"""

from __future__ import annotations

from collections.abc import Iterator

import structlog
import trio

from .._delivery._bounded import BoundedInbox
from .._events._delivery import Delivery
from .._events._event import Event
from .._events._successors import UNCARRIABLE, carried, misfit, successors
from .._faults._errors import ReloadRefusedError
from .._program._difference import Difference
from .._runtime import Runtime

AT_ONCE = 100
"""Events that are looked at before others have their turn."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Cargo:
    """The events that wait for the plugins of a running program.

    Args:
        runtime: the program.
        difference: the changes.
    """

    def __init__(self, runtime: Runtime, difference: Difference) -> None:
        self._runtime = runtime
        self._difference = difference
        self._listens_to = {each.name: {*each.listens_to} for each in difference.new.plugins}
        self._carried: dict[Delivery[Event], tuple[Event, Event]] = {}
        """Events of old classes, and what they become, by their deliveries."""
        self.successors = successors(difference.old.events, difference.new.events)
        """The new classes of event types, by the old ones."""

    async def refuse_misfits(self, *, in_flight: bool) -> None:
        """Refuse the reload where an event that waits would not fit the new program.

        Args:
            in_flight: whether the events in flight count; before they are finished they do not.

        Raises:
            ReloadRefusedError: it says which event, which type and which plugin.
        """
        for old, new in self.successors.items():
            why = misfit(old, new)
            for plugin in () if why is None else self._holders(old):
                said = f"{old.__event_name__!r} needs a restart: {why}, and {plugin}"
                raise ReloadRefusedError(said)
        self._refuse_stored_strangers()
        self._carried.clear()
        for number, (plugin, delivery) in enumerate(self._waiting(in_flight=in_flight)):
            self._look_at(plugin, delivery)
            if number % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()

    def _look_at(self, plugin: str, delivery: Delivery[Event]) -> None:
        event = delivery.event
        name, cls = event.__event_name__, self.successors.get(type(event))
        if (
            plugin in self._difference.replaced
            and (cls or type(event)) not in self._listens_to[plugin]
        ):
            said = f"event {delivery.id} waits for {plugin!r}, which listens to {name!r} no longer"
            raise ReloadRefusedError(said, plugin=plugin)
        if cls is None:
            return
        try:
            new = carried(event, cls, self._difference.new.events)
        except UNCARRIABLE as error:
            said = f"event {delivery.id}, which waits for {plugin!r}, does not fit: {error}"
            raise ReloadRefusedError(said, plugin=plugin) from error
        self._carried[delivery] = event, new

    def _refuse_stored_strangers(self) -> None:
        """Refuse that stored events are of a type that is gone, or that their plugin takes none."""
        new = self._difference.new.events
        for checked in self._difference.old.plugins:
            inbox = self._runtime.hosting.inboxes.get(checked.name)
            if checked.name not in self._listens_to or inbox is None or not _has_stored(inbox):
                continue
            for event in checked.listens_to:
                cls = new.get(event.__event_name__)
                if cls is None or cls not in self._listens_to[checked.name]:
                    gone = "is no event type any more" if cls is None else "has lost this listener"
                    said = f"{event.__event_name__!r} {gone}, and the store has events for"
                    raise ReloadRefusedError(f"{said} {checked.name!r}", plugin=checked.name)

    def _holders(self, old: type[Event]) -> Iterator[str]:
        """Why a class that does not fit the old one cannot follow it, for each plugin."""
        replaced, inboxes = self._difference.replaced, self._runtime.hosting.inboxes
        for checked in self._difference.old.plugins:
            if old not in checked.listens_to:
                continue
            if checked.name not in (*replaced, *self._difference.stopped):
                yield f"{checked.name!r} listens to it"
            elif _has_stored(inboxes[checked.name]):
                yield f"the store has events for {checked.name!r}"

    def _waiting(self, *, in_flight: bool) -> Iterator[tuple[str, Delivery[Event]]]:
        """Each event in memory, with its plugin."""
        for plugin, inbox in list(self._runtime.hosting.inboxes.items()):
            for delivery in list(inbox.queued(in_flight=in_flight)):
                yield plugin, delivery

    def carry(self) -> None:
        """Have the events in memory be of the new classes."""
        if not self.successors:
            return
        for plugin, delivery in self._waiting(in_flight=True):
            cls = self.successors.get(type(delivery.event))
            if cls is None:
                continue
            old, new = self._carried.get(delivery, (None, None))
            if new is not None and old is delivery.event:
                delivery.event = new
                continue
            try:  # It came since the others were looked at.
                delivery.event = carried(delivery.event, cls, self._runtime.events)
            except UNCARRIABLE as error:
                _log.error("event stays of its old class", plugin=plugin, error=str(error))


def _has_stored(inbox: BoundedInbox) -> bool:
    """Whether events wait in a durable inbox."""
    counts = inbox.statistics()
    return inbox.policy.durable and bool(counts.queued or counts.in_flight or counts.backing_off)
