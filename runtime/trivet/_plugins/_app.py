"""What a plugin sees of the program that runs it.

Owns the interface.
Never knows what is behind it: that is `_runtime`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar, Unpack

import trio

from .._events._delivery import Delivery, Envelope, Outcome
from .._events._event import Event, EventTypes

if TYPE_CHECKING:
    from ._plugin import Plugin

P = TypeVar("P", bound="Plugin")


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

    def get(self, plugin: type[P], name: str | None = None) -> P:
        """The active plugin of this class, and of this name where there are several.

        Raises:
            PluginNotActiveError: there is none.
        """
        ...
