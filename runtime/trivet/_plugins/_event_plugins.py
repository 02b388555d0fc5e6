"""Plugins with an inbox, one event or one batch at a time, and LUNA's two kinds of them.

Owns these classes, and the choice of the events that one listens to.
Never knows where events come from, nor how an inbox is filled.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from .._events._delivery_settings import DeliverySettings
from .._events._event import Event, MonitoringEvent, MonitoringPoint, SendingEvent
from .._events._event_class import qualified_name
from .._faults._errors import DefinitionError
from .._faults._frames import home_of
from .._inbox._batching import Batch
from .._inbox._inbox import Inbox
from .._inbox._workers import Workload, work
from .._inbox._workloads import ByBatch, OneByOne
from ._definition import events_in_brackets, refuse_non_events
from ._plugin import Plugin

E = TypeVar("E", bound=Event)


class EventPlugin(Plugin, Generic[E]):
    """A plugin that handles events, by default one after the other.

    The class names its event types once: `EventPlugin[OrderPlaced]`, `EventPlugin[OrderPlaced |
    OrderCancelled]`, or `listens_to = (OrderPlaced, OrderCancelled)`. A base class stands for all
    event types below it, and `Event` for all event types of the program.

    >>> class OrderPlaced(Event):
    ...     order_id: str
    >>> class Billing(EventPlugin[OrderPlaced]):
    ...     async def handle_event(self, event: OrderPlaced) -> None:
    ...         self.log.info("billing", order=event.order_id)
    >>> [event.__event_name__ for event in Billing.listens_to]
    ['order_placed']

    A plugin with a loop of its own overrides `run` instead of `handle_event`, and reads
    `self.inbox`.

    Life: a stop closes the inbox; the plugin may finish the events in it within `[shutdown] drain`.
    """

    listens_to: ClassVar[tuple[type[Event], ...]] = ()
    """The event types that the plugin handles; by default those in the class's brackets."""
    delivery: ClassVar[DeliverySettings] = DeliverySettings()
    """The author's choice about deliveries; the operator's values go over it."""
    inbox: Inbox[E]
    """The queue of the plugin's events; it outlives restarts."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        named = events_in_brackets(cls, EventPlugin)
        if named and "listens_to" in cls.__dict__:
            raise DefinitionError(
                f"{qualified_name(cls)} says twice what it listens to: in EventPlugin[…] and as "
                "`listens_to`; keep one"
            )
        if named:
            cls.listens_to = named
        refuse_non_events(cls, cls.listens_to)

    def wants(self, event: E) -> bool:
        """Whether to deliver the event to this plugin; true for all events by default.

        An unwanted event counts as filtered.

        Life: called in the publisher's task, before the event is in the inbox, and perhaps before
        `initialize`. It must be quick, and look at nothing but the event and the settings.
        """
        return True

    async def handle_event(self, event: E) -> None:
        """Handle one event. An exception fails that event alone: it is counted and logged.

        With `retry` in the delivery settings, as in every durable inbox, the event is tried again
        before it is given up. A handler raises `PermanentError` where another attempt is useless,
        and `RetryAfter` where the right moment is known.

        Life: called in `run`, for up to `concurrency` events side by side; `time_limit`, the
        event's deadline, a restart and the end of a stop cancel it.
        """

    async def run(self) -> None:
        """Give each event of the inbox to `handle_event`, up to `concurrency` side by side."""
        await self._work(OneByOne(self.inbox, self.handle_event))

    async def _work(self, workload: Workload[Any]) -> None:
        policy = self._trivet.policy
        await work(
            workload,
            plugin=self.name,
            crew=policy.concurrency,
            time_limit=policy.time_limit,
            home=home_of(type(self).__module__),
            log=self.log,
        )


class BatchPlugin(EventPlugin[E]):
    """A plugin that handles events in batches.

    The delivery settings `batch_size`, `batch_age` and `batch_bytes` bound a batch.

    >>> class OrderPlaced(Event):
    ...     order_id: str
    >>> class Shipping(BatchPlugin[OrderPlaced]):
    ...     delivery = DeliverySettings(batch_size=50, batch_age=0.5)
    ...
    ...     async def handle_batch(self, events: Batch[OrderPlaced]) -> None:
    ...         self.log.info("shipping", orders=len(events), closed_by=events.closed_by)
    >>> [event.__event_name__ for event in Shipping.listens_to]
    ['order_placed']
    """

    @abstractmethod
    async def handle_batch(self, events: Batch[E]) -> None:
        """Handle a batch of events. An exception fails every one of them.

        If only a part of a batch has failed, call `self.inbox.reject`, or `keep`, with that part of
        `events.deliveries`; the other events are handled when this returns.

        Life: called in `run`, as `handle_event` is.
        """

    async def run(self) -> None:
        """Give batches of the inbox to `handle_batch`, up to `concurrency` side by side."""
        await self._work(ByBatch(self.inbox, self.handle_batch, self._trivet.policy))


class MonitoringPlugin(EventPlugin[MonitoringEvent]):
    """A plugin that sends the service's monitoring points to a monitoring system.

    >>> class PrintErrors(MonitoringPlugin):
    ...     async def flush_points(self, points: list[MonitoringPoint]) -> None:
    ...         for point in points:
    ...             if point.series == "errors":
    ...                 self.log.warning("request failed", **point.tags)
    >>> [event.__event_name__ for event in PrintErrors.listens_to]
    ['monitoring_event']
    """

    async def handle_event(self, event: MonitoringEvent) -> None:
        """Give the event's points to `flush_points`."""
        await self.flush_points(event.points)

    @abstractmethod
    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        """Send the points of one event, such as those of one request that has ended.

        Life: called in `run`, as `handle_event` is; an exception fails the event.
        """


class EventSendingPlugin(EventPlugin[SendingEvent]):
    """A plugin that sends the events of LUNA's handlers to a third party.

    >>> class Exporter(EventSendingPlugin):
    ...     async def send_events(self, event: SendingEvent) -> None:
    ...         self.log.info("exported", handler=event.handler_id, events=len(event.events))
    >>> [event.__event_name__ for event in Exporter.listens_to]
    ['sending_event']
    """

    async def handle_event(self, event: SendingEvent) -> None:
        """Give the event to `send_events`."""
        await self.send_events(event)

    @abstractmethod
    async def send_events(self, event: SendingEvent) -> None:
        """Send the events that one successful request to a handler generated.

        Life: called in `run`, as `handle_event` is; an exception fails the event.
        """
