"""Event classes: frozen attrs classes with a name.

Owns the base class, and LUNA's two event types.
Never knows who listens, nor how an event travels: the envelope is in `_delivery`. How an event
class is made is `_event_class`'s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Self, TypeVar, dataclass_transform

import attrs
import msgspec

from ._delivery_settings import DeliverySettings
from ._event_class import EventBase, qualified_name

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with its UTC offset. A naive one is refused, since its hour is ambiguous."""

Value = str | int | float
"""The value of a tag or a field of a monitoring point."""


class FrozenEventError(attrs.exceptions.FrozenInstanceError):
    """Code tried to change a field of an event."""

    def __init__(self, message: str) -> None:
        AttributeError.__init__(self, message)
        self.args = (message,)  # attrs' base class has one `args` for all instances.


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
class Event(EventBase, name="event"):
    """The base class of events. A subclass with annotated fields is a frozen attrs class.

    The name of an event type routes its events, and is the `name` of `POST /events/{name}`. The
    default is the name of the class in snake case.

    >>> class OrderPlaced(Event):
    ...     order_id: str
    ...     total: float = 0.0
    >>> OrderPlaced("o-1", total=9.5)
    OrderPlaced(order_id='o-1', total=9.5)
    >>> OrderPlaced.__event_name__
    'order_placed'

    A field may have what `attrs.field` says, except what an event that comes as JSON could not
    have: a converter, an alias, a default that depends on the event, or no `init`. The values are
    in slots, so that `vars(event)` is empty, and `object.__setattr__` does not set them.

    Args of the class statement:
        name: letters, digits, `.`, `-` and `_`.
        delivery: the delivery settings of this type, for the keys that neither the operator nor
            the plugin's author gives.
        from_outside: whether clients and brokers may publish such events; by default as for the
            base class, and True for `Event`. With False they are the program's own, unless the
            operator names the type in `open_events`.

    Raises:
        DefinitionError: when a subclass is created, for one that cannot be an event type.
    """

    @classmethod
    def example(cls, **changes: Any) -> Self:
        """An event for a test, which gives only the fields that matter to it.

        Fields that have a default keep it. The others get a simple value of their type: a text is
        the field's name, a number 1, a list has one item.

        >>> class OrderPlaced(Event):
        ...     order_id: str
        ...     total: float
        >>> OrderPlaced.example(total=9.5)
        OrderPlaced(order_id='order_id', total=9.5)

        Args:
            changes: values for fields, by name.

        Raises:
            TypeError: the event has no such field.
            DefinitionError: a field without a default has a type of which there is no example.
        """
        from ._examples import field_values  # noqa: PLC0415 - for tests

        return cls(**field_values(cls, changes))


def _refuse_change(event: Event, name: str, value: object = None) -> None:
    """Raise, since all subscribers share this very event."""
    kind = type(event).__name__
    raise FrozenEventError(
        f"{kind}.{name}: an event cannot be changed, since others have it too; "
        f"make another with `attrs.evolve(event, {name}=…)`"
    )


# The methods of attrs name neither the event nor the field.
Event.__setattr__ = _refuse_change  # type: ignore[method-assign,assignment]
Event.__delattr__ = _refuse_change  # type: ignore[method-assign,assignment]

EventT = TypeVar("EventT", bound=Event)


def source_of(cls: type) -> str:
    """File, line and name of a class, for messages; its name alone where there is no source."""
    try:
        line = inspect.getsourcelines(cls)[1]
        return f"{inspect.getsourcefile(cls)}:{line} ({cls.__qualname__})"
    except (OSError, TypeError):
        return qualified_name(cls)


def place_of(function: Callable[..., object]) -> str:
    """File and line of a function, for messages; its decorators are left out."""
    code = inspect.unwrap(function).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def owner_of(cls: type, attribute: str) -> type:
    """The class that defines an attribute, of a class and its bases; `object` where none does."""
    return next((base for base in cls.__mro__ if attribute in vars(base)), object)


@attrs.frozen
class MonitoringPoint:
    """One measurement of one request."""

    series: str
    """The name of the series, such as `requests` or `errors`."""
    time: Timestamp
    """The start of the request."""
    tags: dict[str, Value]
    """Labels to group by, each with few distinct values."""
    fields: dict[str, Value]
    """The measured values."""


class MonitoringEvent(
    Event,
    name="monitoring_event",
    delivery=DeliverySettings(overflow="drop_oldest"),
    from_outside=False,
):
    """Monitoring points for a custom monitoring system.

    Fresh points are worth more than old ones, so a full inbox drops its oldest by default.
    """

    points: list[MonitoringPoint]
    """The points, such as those of one request."""


class SendingEvent(Event, name="sending_event", from_outside=False):
    """Events that a handler generated, for sending to a third party."""

    events: list[dict[str, Any]]
    """The generated events, as JSON objects."""
    handler_id: str
    """The id of the handler."""
    account_id: str
    """The id of the client's account."""
    request_id: str
    """The id of the request to the handler."""
    create_event_time: Timestamp
    """The moment when the handler began."""
    end_event_time: Timestamp
    """The moment when the handler ended."""
