"""The classes that authors derive from: a lifetime, an inbox and a `run()`.

Owns these, and `App`: the program as a plugin sees it.
Never knows who starts, restarts and stops a plugin, nor where its events come from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
)
from typing import Any, ClassVar, Generic, Protocol, TypeVar, Unpack, overload

import attrs
import structlog
import trio

from .._events._delivery import Delivery, Envelope
from .._events._delivery_settings import DeliverySettings
from .._events._event import (
    Event,
    MonitoringEvent,
    MonitoringPoint,
    SendingEvent,
    place_of,
    snake_case,
)
from .._events._outcome import Outcome
from .._events._types import EventTypes
from .._faults._errors import DefinitionError
from .._inbox._batching import Batch
from .._inbox._inbox import Inbox
from .._inbox._workers import Workload, work
from .._inbox._workloads import ByBatch, OneByOne
from ._definition import (
    events_in_brackets,
    only_settings,
    refuse_attrs_decorator,
    refuse_lunas_spelling,
    refuse_other_policies,
    refuse_other_than_events,
)
from ._hooks import check_methods, check_names
from ._internals import Internals
from ._resources import T
from ._supervision_settings import SupervisionSettings

PluginT = TypeVar("PluginT", bound="Plugin")
E = TypeVar("E", bound=Event)


class App(Protocol):
    """What a plugin sees of the program that runs it."""

    @property
    def service(self) -> str:
        """The service's name."""
        ...

    @property
    def stopping(self) -> trio.Event:
        """Set when the stop begins."""
        ...

    @property
    def events(self) -> EventTypes:
        """The event types, by name."""
        ...

    @property
    def durable(self) -> frozenset[str]:
        """The plugins whose inboxes are durable: what these have queued is on the disk."""
        ...

    def listens(self, event: type[Event]) -> bool:
        """Whether a plugin listens to events of this type."""
        ...

    def room(self, event: type[Event]) -> float:
        """How many events of this type can be published together, and none has to wait for room.

        For who fetches events from elsewhere, and leaves there what nobody has room for.
        """
        ...

    def room_bytes(self, event: type[Event]) -> float:
        """As `room`: how many bytes of memory events of this type can take together."""
        ...

    def buffer_bytes(self, event: type[Event]) -> int:
        """How many bytes of memory an event of this type may take: what its largest inbox has.

        For who decodes what comes from elsewhere; see `EventTypes.decode_within`. The bytes are an
        estimate, and a `Delivery` tells them on as its `size`.
        """
        ...

    async def publish(
        self, event: Event, *, wait: bool = False, **envelope: Unpack[Envelope]
    ) -> Outcome:
        """Hand the event to every subscriber; see `Runtime.publish`."""
        ...

    async def publish_many(
        self, deliveries: Iterable[Delivery[Event]], *, wait: bool = False
    ) -> list[Outcome]:
        """Hand several events to every subscriber; see `Runtime.publish_many`."""
        ...

    def get(self, plugin: type[PluginT], name: str | None = None) -> PluginT:
        """The active plugin of this class, and of this name where there are several.

        Raises:
            PluginNotActiveError: there is none.
        """
        ...


class Plugin(ABC):
    """The common part of all plugins. Derive from one of its subclasses, not from this.

    Annotated fields are the plugin's settings, which the operator gives in `[plugins.NAME]`:
    attrs makes them, so `attrs.field(...)` and its validators work. A field of the type
    `type[Event]` is an event type that the operator names. A field that begins with an underscore
    is the plugin's own, not a setting. There is one instance of a name for the life of the
    program; a restart calls `initialize`, `run` and `close` of that instance again.
    """

    name: ClassVar[str] = ""
    """The plugin's name in settings, logs and messages: the class's in snake case by default. One
    instance of a class may have another by the operator's `use`: then `self.name` is that."""
    needs: ClassVar[tuple[type[Plugin] | str, ...]] = ()
    """Plugins, or names of plugins, that start before this one and stop after it."""
    supervision: ClassVar[SupervisionSettings] = SupervisionSettings()
    """The author's choice; the operator's goes over it."""

    app: App
    """The program; set before anything of the author's runs."""
    log: structlog.typing.FilteringBoundLogger
    """A logger that has the plugin's name bound."""
    _trivet: Internals

    def __init__(self, app: App) -> None:
        """Hand-written ones take the app, as here. The settings are set by then."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        refuse_attrs_decorator(cls)
        refuse_lunas_spelling(cls)
        check_names(cls)
        check_methods(cls)
        refuse_other_policies(cls, supervision=SupervisionSettings, delivery=DeliverySettings)
        if "name" not in cls.__dict__:
            cls.name = snake_case(cls.__name__)
        attrs.define(
            cls,
            slots=False,
            init=False,
            eq=False,
            kw_only=True,  # A setting without a default may stand anywhere.
            field_transformer=only_settings,
        )

    async def initialize(self) -> None:
        """Prepare. Called at each start, within a time limit; an exception is a failed start."""

    async def close(self) -> None:
        """Clean up. Called, within a time limit, at each end of a lifetime that has started.

        What was entered is left afterwards, so it can still be used here.
        """

    @abstractmethod
    async def run(self) -> None:
        """Work. Called after `initialize`; an exception ends the lifetime, and a restart follows.

        Cancelled at a stop, unless the plugin reads its inbox: then the inbox closes, and what is
        left in it may be finished within the stop's budget.
        """

    @overload  # Who is both is entered as an async one.
    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T: ...

    @overload
    async def enter(self, manager: AbstractContextManager[T]) -> T: ...

    async def enter(self, manager: AbstractAsyncContextManager[T] | AbstractContextManager[T]) -> T:
        """Enter a context manager that is left when this lifetime ends, the last one first.

        The way to hold a client, a file or a nursery across `initialize`, `run` and `close`.

        Raises:
            RuntimeError: outside of `initialize`. Within `run`, use `async with`: a scope that is
                entered there and left after it would leave Trio's scopes in disorder.
        """
        resources = self._trivet.resources
        if resources is None:
            raise RuntimeError("enter() is for initialize(); elsewhere use `async with`")
        return await resources.enter(manager)

    def degrade(self, reason: str) -> None:
        """Say that the plugin works, but not as it should: its broker is away, say.

        The probes show it, and events say so to who listens, until `recover` or the end of this
        lifetime. A critical plugin that is degraded makes the service not ready.

        Args:
            reason: for operators; it must not hold secrets.
        """
        self._trivet.report(reason)

    def recover(self) -> None:
        """Say that nothing is amiss any more; harmless where nothing was."""
        self._trivet.report(None)

    @property
    def stopping(self) -> trio.Event:
        """Set when the program's stop begins."""
        return self.app.stopping


class BackgroundPlugin(Plugin):
    """Work in the background, routes, or both.

    At a stop `run` is cancelled at once. What has to be finished is finished in `close`.

    >>> class Kettle(BackgroundPlugin):
    ...     step: float = 1.0
    ...
    ...     async def run(self) -> None:
    ...         temperature = 20.0
    ...         while temperature < 100:
    ...             await trio.sleep(1)
    ...             temperature += self.step
    >>> Kettle.name
    'kettle'
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        if "start" in cls.__dict__ and cls.run is BackgroundPlugin.run:
            raise DefinitionError(
                f"{place_of(cls)}: LUNA's 'start' is here run(self), which does the work itself "
                "instead of starting a task"
            )
        super().__init_subclass__(**keywords)

    async def run(self) -> None:
        """Do nothing until the stop: for plugins that have only routes or resources."""
        await trio.sleep_forever()


class SourcePlugin(BackgroundPlugin):
    """A background plugin that brings events in from outside: started last, stopped first."""

    @abstractmethod
    async def run(self) -> None:
        """Fetch and publish, until cancelled."""


class EventPlugin(Plugin, Generic[E]):
    """Handles events, one after the other.

    What it listens to is said once: `EventPlugin[OrderPlaced]`, `EventPlugin[OrderPlaced |
    OrderCancelled]`, or `listens_to = (OrderPlaced, OrderCancelled)`. A base class stands for all
    event types that derive from it, `Event` for all that there are.

    >>> class OrderPlaced(Event):
    ...     order_id: str
    >>> class Billing(EventPlugin[OrderPlaced]):
    ...     async def handle_event(self, event: OrderPlaced) -> None:
    ...         self.log.info("billing", order=event.order_id)
    >>> [event.__event_name__ for event in Billing.listens_to]
    ['order_placed']

    Who wants another loop than the one below overrides `run` instead of `handle_event`, and reads
    `self.inbox`.
    """

    listens_to: ClassVar[tuple[type[Event], ...]] = ()
    """The event types."""
    delivery: ClassVar[DeliverySettings] = DeliverySettings()
    """The author's choice; the operator's goes over it."""
    inbox: Inbox[E]
    """Where the events arrive; it outlives restarts."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        named = events_in_brackets(cls, EventPlugin)
        if named and "listens_to" in cls.__dict__:
            raise DefinitionError(
                f"{place_of(cls)} says twice what it listens to: in EventPlugin[…] and as "
                "`listens_to`; keep one"
            )
        if named:
            cls.listens_to = named
        refuse_other_than_events(cls, cls.listens_to)

    def wants(self, event: E) -> bool:
        """Whether the event is to be delivered to this plugin at all; all are by default.

        Called by whoever publishes, before the event is in the inbox, and perhaps before
        `initialize`: it has to be quick, and to look at nothing but the event and the settings.
        What is not wanted is counted as filtered.
        """
        return True

    async def handle_event(self, event: E) -> None:
        """Handle one event. An exception costs that event alone: counted, logged, and on.

        Where the delivery's `retry` says so, which it does for durable inboxes, the event is
        tried again before it is given up. `PermanentError` says that this is no use, `RetryAfter`
        when it is.
        """

    async def run(self) -> None:
        """Hand the events of the inbox to `handle_event`, `concurrency` of them side by side."""
        await self._work(OneByOne(self.inbox, self.handle_event))

    async def _work(self, workload: Workload[Any]) -> None:
        policy = self._trivet.policy
        limit, crew = policy.time_limit, policy.concurrency
        await work(workload, plugin=self.name, crew=crew, time_limit=limit, log=self.log)


class BatchPlugin(EventPlugin[E]):
    """Handles events in batches.

    How large they are is said by `batch_size`, `batch_age` and `batch_bytes` of the delivery.

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
        """Handle some events. An exception is one for each of them: all are tried again, or none.

        Who wants to tell them apart uses `self.inbox.reject` or `keep` for those of
        `events.deliveries` that are not done; the others are, when this returns.
        """

    async def run(self) -> None:
        """Hand batches out of the inbox to `handle_batch`, `concurrency` of them side by side."""
        await self._work(ByBatch(self.inbox, self.handle_batch, self._trivet.policy))


class MonitoringPlugin(EventPlugin[MonitoringEvent]):
    """Sends the service's monitoring points to a monitoring system."""

    async def handle_event(self, event: MonitoringEvent) -> None:
        """Pass the points on."""
        await self.flush_points(event.points)

    @abstractmethod
    async def flush_points(self, points: list[MonitoringPoint]) -> None:
        """Send the points of one request, after its end."""


class EventSendingPlugin(EventPlugin[SendingEvent]):
    """Sends what handlers generated to a third party."""

    async def handle_event(self, event: SendingEvent) -> None:
        """Pass the event on."""
        await self.send_events(event)

    @abstractmethod
    async def send_events(self, event: SendingEvent) -> None:
        """Send what one successful request to a handler generated."""
