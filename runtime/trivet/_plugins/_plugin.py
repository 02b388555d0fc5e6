"""Plugins without an inbox, and the base class of all plugins: a lifetime and a `run()`.

Owns these classes, and `App`: the program as a plugin sees it.
Never knows who starts, restarts and stops a plugin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ClassVar, Protocol, TypeVar, Unpack, overload

import attrs
import structlog
import trio

from .._events._delivery import Delivery, Envelope
from .._events._delivery_settings import DeliverySettings
from .._events._event import Event
from .._events._event_class import qualified_name, snake_case
from .._events._outcome import Outcome
from .._events._types import EventTypes
from .._faults._errors import DefinitionError
from ._channels import BrokerChannel
from ._definition import (
    only_settings,
    refuse_attrs_decorator,
    refuse_lunas_spelling,
    refuse_wrong_policies,
)
from ._hooks import check_methods, check_names
from ._internals import Internals
from ._resources import T
from ._supervision_settings import SupervisionSettings

PluginT = TypeVar("PluginT", bound="Plugin")


class App(Protocol):
    """The program as a plugin sees it. `Runtime` is one; a test may make another."""

    @property
    def service(self) -> str:
        """The service's name."""
        ...

    @property
    def stopping(self) -> trio.Event:
        """An event that is set when the stop begins."""
        ...

    @property
    def events(self) -> EventTypes:
        """The event types of the program, by name."""
        ...

    @property
    def durable(self) -> frozenset[str]:
        """The names of the plugins whose inboxes are durable: their queued events are on disk."""
        ...

    def listens(self, event: type[Event]) -> bool:
        """Whether any plugin listens to events of this type."""
        ...

    def room(self, event: type[Event]) -> float:
        """The number of events of this type that fit into all their inboxes at once.

        A source fetches no more than that, and leaves the rest outside. A nearly full inbox that
        never makes a publisher wait counts as empty. Infinity where no plugin listens to the type.
        """
        ...

    def room_bytes(self, event: type[Event]) -> float:
        """The bytes of memory that events of this type may take at once; see `room`."""
        ...

    def buffer_bytes(self, event: type[Event]) -> int:
        """The bytes of memory that one event of this type may take: the limit of its largest inbox.

        A source gives them to `EventTypes.decode_within`, whose estimate becomes the `size` of the
        `Delivery`.
        """
        ...

    def publish(
        self, event: Event, *, wait: bool = False, **envelope: Unpack[Envelope]
    ) -> Coroutine[Any, Any, Outcome]:
        """Hand the event to every subscriber; see `Runtime.publish`."""
        ...

    async def publish_many(
        self, deliveries: Iterable[Delivery[Event]], *, wait: bool = False
    ) -> list[Outcome]:
        """Hand several events to every subscriber; see `Runtime.publish_many`."""
        ...

    def get(self, plugin: type[PluginT], name: str | None = None) -> PluginT:
        """The active plugin of a class.

        Args:
            plugin: the class.
            name: the plugin's name; needed only where several plugins have this class.

        Raises:
            PluginNotActiveError: no plugin of the class, or with the name, is active.
        """
        ...


class Plugin(ABC):
    """The common part of all plugins. Derive from one of its subclasses, not from this.

    Annotated fields are the plugin's settings, which the operator gives in `[plugins.NAME]`. attrs
    makes them, so `attrs.field(...)` and its validators work. A field of the type `type[Event]` is
    an event type that the operator names. A field whose name begins with an underscore is the
    plugin's own, and no setting.

    Life: a name has one instance for the life of the program. Each lifetime of it calls
    `initialize`, then `run`, then `close`; a restart begins a new lifetime of the same instance.
    """

    name: ClassVar[str] = ""
    """The plugin's name in settings, logs and messages; by default the class's in snake case. Where
    the operator gives an instance another name, by `use`, `self.name` is that name."""
    needs: ClassVar[tuple[type[Plugin] | str, ...]] = ()
    """Plugins, or names of plugins, that start before this one and stop after it."""
    supervision: ClassVar[SupervisionSettings] = SupervisionSettings()
    """The author's choice about restarts; the operator's values go over it."""

    app: App
    """The program; set before any code of the author runs."""
    log: structlog.typing.FilteringBoundLogger
    """A logger whose lines have the plugin's name."""
    _trivet: Internals

    def __init__(self, app: App) -> None:
        """Take the program. An `__init__` of your own has this signature.

        Life: called once for each name; `app`, `log` and the settings are set before.
        """

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        """Whether a class derives from this one; `abc` would ask each plugin class in turn."""
        return cls in other.__mro__

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        refuse_attrs_decorator(cls)
        refuse_lunas_spelling(cls)
        check_names(cls)
        check_methods(cls)
        refuse_wrong_policies(cls, supervision=SupervisionSettings, delivery=DeliverySettings)
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
        """Prepare a lifetime.

        Life: called at each start, within `[startup] limit`; an exception is a failed start.
        """

    async def close(self) -> None:
        """Clean up at the end of a lifetime.

        Life: called at each end of a lifetime whose `initialize` has returned, within `[shutdown]
        close`. Context managers that `enter` holds are left afterwards, so they still work here.
        """

    @abstractmethod
    async def run(self) -> None:
        """Do the plugin's work.

        Life: called after `initialize`; an exception ends the lifetime, and a restart follows. A
        stop cancels it, unless the plugin reads its inbox: then the inbox closes, and the plugin
        may finish the events in it within `[shutdown] drain`.
        """

    @overload  # A manager of both kinds is entered as an async one.
    async def enter(self, manager: AbstractAsyncContextManager[T]) -> T: ...

    @overload
    async def enter(self, manager: AbstractContextManager[T]) -> T: ...

    async def enter(self, manager: AbstractAsyncContextManager[T] | AbstractContextManager[T]) -> T:
        """Enter a context manager, and leave it when this lifetime ends, the last one first.

        This holds a client, a file or a nursery across `initialize`, `run` and `close`.

        Args:
            manager: a context manager, async or not.

        Returns:
            The value of its `as` clause.

        Raises:
            RuntimeError: called outside of `initialize`. In `run`, use `async with`: a scope that
                is entered there and left after it would bring Trio's scopes into disorder.
        """
        resources = self._trivet.resources
        if resources is None:
            raise RuntimeError("enter() is for initialize(); elsewhere use `async with`")
        return await resources.enter(manager)

    def degrade(self, reason: str, *, remedy: str | None = None) -> None:
        """Report that the plugin works, but not fully; for example, its broker is away.

        The log, the probes and a `PluginStatusEvent` show it, until `recover` or the end of this
        lifetime. A critical plugin that is degraded makes the service not ready.

        Args:
            reason: one line for operators, without secrets.
            remedy: what a person can do about it, in one line, where that does not follow from the
                reason, such as "give the user clerk the right to publish". None by default.

        Raises:
            RuntimeError: called in `__init__`, before the program runs the plugin.
        """
        self._trivet.report(reason, remedy)

    def recover(self) -> None:
        """Report that the plugin works fully again; without effect if it is not degraded.

        Raises:
            RuntimeError: called in `__init__`, before the program runs the plugin.
        """
        self._trivet.report(None, None)

    def describe_channels(self) -> Iterable[BrokerChannel]:
        """The channels of brokers by which the plugin receives or sends events; none by default.

        `GET /asyncapi.json` shows them.

        Life: called when a client asks for the document, whatever the plugin's status is. It may
        read settings, and must not wait.
        """
        return ()

    @property
    def stopping(self) -> trio.Event:
        """An event that is set when the program's stop begins."""
        return self.app.stopping


class BackgroundPlugin(Plugin):
    """A plugin with work in the background, with routes, or both.

    Life: a stop cancels `run` at once. Work that must be finished is finished in `close`.

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
                f"{qualified_name(cls)}: LUNA's 'start' is here run(self), which does the work "
                "itself instead of starting a task"
            )
        super().__init_subclass__(**keywords)

    async def run(self) -> None:
        """Sleep until the stop; enough for a plugin that has only routes or resources."""
        await trio.sleep_forever()


class SourcePlugin(BackgroundPlugin):
    """A background plugin that brings events in from outside.

    Life: `initialize` is called when all event plugins and background plugins have started. A stop
    cancels `run` and closes sources first; the inboxes of event plugins are drained after that.

    >>> from trivet import Event
    >>> class Ticked(Event):
    ...     number: int
    >>> class Clock(SourcePlugin):
    ...     async def run(self) -> None:
    ...         for number in range(60):
    ...             await self.app.publish(Ticked(number))
    ...             await trio.sleep(1)
    """

    @abstractmethod
    async def run(self) -> None:
        """Fetch events and publish them, until cancelled."""
