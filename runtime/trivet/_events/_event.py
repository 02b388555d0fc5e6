"""Event classes: frozen attrs classes with a name.

Owns the base class, the checks of a subclass, and LUNA's two event types.
Never knows who listens, nor how an event travels: the envelope is in `_delivery`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform

import attrs
import msgspec

from .._faults._errors import (
    DefinitionError,
    refuse_shared_default,
)
from ._delivery_settings import DeliverySettings

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with its UTC offset. A naive one is refused, since its hour is ambiguous."""

Value = str | int | float
"""The value of a tag or a field of a monitoring point."""


def snake_case(name: str) -> str:
    """The default name of a class, for events and plugins alike.

    >>> snake_case("HTTPRequestMonitoring")
    'http_request_monitoring'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class FrozenEventError(attrs.exceptions.FrozenInstanceError):
    """Code tried to change a field of an event."""

    def __init__(self, message: str) -> None:
        AttributeError.__init__(self, message)
        self.args = (message,)  # attrs' base class has one `args` for all instances.


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
@attrs.frozen(slots=False)
class Event:
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

    __event_name__: ClassVar[str] = "event"
    __delivery__: ClassVar[DeliverySettings] = DeliverySettings()
    __from_outside__: ClassVar[bool] = True
    __listen_by_base__: ClassVar[bool] = True
    """Whether a plugin that listens to a base class of this type listens to this type, too."""

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        delivery: DeliverySettings | None = None,
        from_outside: bool | None = None,
    ) -> None:
        super().__init_subclass__()
        if "__attrs_attrs__" in cls.__dict__:  # An author's own @attrs.frozen has made a copy.
            raise DefinitionError(
                f"{qualified_name(cls)}: an event is a frozen attrs class by itself; "
                "take its decorator away"
            )
        _refuse_taken_names(cls)
        cls.__event_name__ = snake_case(cls.__name__) if name is None else name
        if not re.fullmatch(r"[A-Za-z0-9._-]+", cls.__event_name__):
            raise DefinitionError(
                f"{qualified_name(cls)}: an event's name has letters, digits, '.', '-' and '_' "
                f"only, not {cls.__event_name__!r}"
            )
        if delivery is not None:
            cls.__delivery__ = delivery
        if from_outside is not None:
            cls.__from_outside__ = from_outside
        attrs.frozen(cls, slots=False)
        for field in attrs.fields(cls):
            refuse_shared_default(qualified_name(cls), field.name, field.default)
            if field.converter is not None:
                raise DefinitionError(
                    f"{qualified_name(cls)}.{field.name}: a converter is not called for an event "
                    "that comes as JSON; convert where the event is handled"
                )
        # The methods of `Event` do the same. With methods of its own, the decorator that is refused
        # above would fail sooner, with a message about __setattr__.
        del cls.__setattr__, cls.__delattr__


def _refuse_taken_names(cls: type[Event]) -> None:
    """Raise for a field or value whose name Trivet uses itself."""
    annotations = inspect.get_annotations(cls)
    for name in dict.fromkeys([*annotations, *vars(cls)]):
        taken = name in annotations and name.startswith("__") and name.endswith("__")
        if taken or name in ("__event_name__", "__delivery__", "__from_outside__"):
            raise DefinitionError(
                f"{qualified_name(cls)}.{name}: names with two underscores are not for fields; an "
                f"event's own name is `class {cls.__name__}(Event, name=…)`"
            )


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


def qualified_name(cls: type) -> str:
    """The place of a class, for messages: `module.QualifiedName`."""
    return f"{cls.__module__}.{cls.__qualname__}"


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
