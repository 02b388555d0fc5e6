"""Event types: names, fields, and decoding from JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from types import new_class

import attrs
import msgspec
import pytest

from trivet import (
    ConfigurationError,
    DefinitionError,
    DeliverySettings,
    Event,
    EventDecodeError,
    MonitoringEvent,
    MonitoringPoint,
    SendingEvent,
    Timestamp,
)
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._events._event_class import snake_case
from trivet._events._types import EventTypes


class OrderPlaced(Event):
    order_id: str
    total: float = 0.0


class GiftOrderPlaced(OrderPlaced):
    greeting: str = ""


class Tally(Event):
    counts: dict[int, int]


class Visit(Event, name="site.visit-1"):
    at: Timestamp


def _check(event: object, attribute: object, value: int) -> None:
    if value % 2:
        raise ValueError("number is odd")


class Even(Event):
    number: int = attrs.field(default=0, validator=_check)


class Undecodable(Event):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


TYPES = EventTypes(
    [OrderPlaced, GiftOrderPlaced, Tally, Visit, Even, MonitoringEvent, SendingEvent]
)

SENDING = {
    "events": [{"face": 1}],
    "handler_id": "h1",
    "account_id": "a1",
    "request_id": "1,r",
    "create_event_time": "2024-05-01T10:00:00Z",
    "end_event_time": "2024-05-01T10:00:01+03:00",
}
POINT = {
    "series": "requests",
    "time": "2024-05-01T10:00:00Z",
    "tags": {"route": "GET:/x", "status_code": 200},
    "fields": {"execution_time": 0.5},
}


def json(document: object) -> bytes:
    """The document as a client would post it."""
    return msgspec.json.encode(document)


def points(**changes: object) -> bytes:
    """A monitoring event with two points, the second with other fields."""
    return json({"points": [POINT, {**POINT, **changes}]})


# Names


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("OrderPlaced", "order_placed"),
        ("HTTPRequestMonitoring", "http_request_monitoring"),
        ("Order2Placed", "order2_placed"),
        ("already_snake", "already_snake"),
    ],
)
def test_snake_case(name: str, snake: str) -> None:
    """Snake case splits at capitals, and keeps an acronym as one word."""
    assert snake_case(name) == snake


def test_an_event_is_named_after_its_class() -> None:
    """Without `name=`, the class's name in snake case names the event."""
    assert OrderPlaced.__event_name__ == "order_placed"


def test_an_events_name_may_be_given() -> None:
    """`name=` gives the name, of letters, digits, `.`, `-` and `_`."""
    assert Visit.__event_name__ == "site.visit-1"


def test_a_name_is_not_inherited() -> None:
    """An event type that derives from a named one has its own name, and the fields of both."""

    class LateVisit(Visit):
        delay: float

    assert LateVisit.__event_name__ == "late_visit"
    assert [field.name for field in attrs.fields(LateVisit)] == ["at", "delay"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a\n"])
def test_a_name_with_other_characters_is_refused(name: str) -> None:
    """A name that does not fit a URL's segment is an error that shows it and says where."""
    with pytest.raises(DefinitionError) as caught:
        new_class("Wrong", (Event,), {"name": name})

    assert repr(name) in str(caught.value)
    assert "Wrong" in str(caught.value)


def test_lunas_events_have_lunas_names() -> None:
    """The two event types of LUNA are named as LUNA names them."""
    assert MonitoringEvent.__event_name__ == "monitoring_event"
    assert SendingEvent.__event_name__ == "sending_event"


def test_two_types_of_one_name() -> None:
    """A name used twice is an error with the name, and both classes with file and line."""

    class First(Event, name="order_placed"):
        pass

    with pytest.raises(ConfigurationError) as caught:
        EventTypes([OrderPlaced, First])
    message = str(caught.value)
    assert "'order_placed'" in message
    for cls in (OrderPlaced, First):
        line = inspect.getsourcelines(cls)[1]
        assert f"{__file__}:{line} ({cls.__qualname__})" in message


def test_one_type_may_be_registered_twice() -> None:
    """A class that was found twice is one event type."""
    assert list(EventTypes([OrderPlaced, OrderPlaced])) == ["order_placed"]


# Classes


def test_an_event_is_a_frozen_attrs_class() -> None:
    """Fields come from annotations, by position or keyword, and cannot be assigned."""
    event = OrderPlaced("o-1", total=2.5)
    assert (event.order_id, event.total) == ("o-1", 2.5)
    assert event == OrderPlaced("o-1", 2.5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.total = 3.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del event.total  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("decorator", [attrs.frozen, attrs.define])
def test_an_attrs_decorator_of_ones_own_is_refused(decorator: Callable[[type], type]) -> None:
    """An attrs decorator on an event class is refused as needless."""

    class Ordered(Event):
        number: int = 5

    with pytest.raises(
        DefinitionError, match=r"Ordered: an event is a frozen attrs class by itself"
    ):
        decorator(Ordered)


def test_matching() -> None:
    """`matching` finds a class itself, and the classes below it."""
    assert TYPES.matching(OrderPlaced) == [OrderPlaced, GiftOrderPlaced]
    assert TYPES.matching(GiftOrderPlaced) == [GiftOrderPlaced]
    assert TYPES.matching(Event) == [TYPES[name] for name in TYPES]


def test_types_are_found_by_name() -> None:
    """`[]` and `get` find a class by name; `get` returns None for an unknown one."""
    assert TYPES["order_placed"] is OrderPlaced
    assert TYPES.get("site.visit-1") is Visit
    assert TYPES.get("nothing") is None


@pytest.mark.parametrize(
    ("cls", "overflow"),
    [(MonitoringEvent, "drop_oldest"), (SendingEvent, "block"), (OrderPlaced, "block")],
)
def test_delivery_by_default(cls: type[Event], overflow: str) -> None:
    """Monitoring points drop the oldest; other events block for 1 s and are then rejected."""
    policy = DeliveryPolicy.decide(cls.__delivery__)
    assert (policy.overflow, policy.buffer) == (overflow, 1000)
    assert (policy.block_for, policy.on_full) == (1.0, "reject")


def test_delivery_of_a_type() -> None:
    """`delivery=` holds for the type, and for types that derive from it."""
    choice = DeliverySettings(overflow="drop_newest")

    class Hint(Event, delivery=choice):
        pass

    class StrongHint(Hint):
        pass

    assert Hint.__delivery__ is choice
    assert StrongHint.__delivery__ is choice
    assert Event.__delivery__ == DeliverySettings()


# Decoding


def test_json_is_decoded_into_the_class() -> None:
    """A document becomes an instance, with offsets of times, and nested points as classes."""
    sending = TYPES.decode(SendingEvent, json(SENDING))
    assert isinstance(sending, SendingEvent)
    assert sending.events == [{"face": 1}]
    assert sending.create_event_time == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert sending.end_event_time == datetime(
        2024, 5, 1, 10, 0, 1, tzinfo=timezone(timedelta(hours=3))
    )
    monitoring = TYPES.decode(MonitoringEvent, points(tags={"a": "x", "b": 1, "c": 0.5}))
    assert monitoring.points[1] == MonitoringPoint(
        series="requests",
        time=datetime(2024, 5, 1, 10, tzinfo=UTC),
        tags={"a": "x", "b": 1, "c": 0.5},
        fields={"execution_time": 0.5},
    )


def test_defaults_fill_in_what_is_absent() -> None:
    """A field with a default may be left out."""
    assert TYPES.decode(OrderPlaced, b'{"order_id": "o"}') == OrderPlaced("o", 0.0)


def test_unknown_fields_are_ignored() -> None:
    """Fields of a newer publisher are ignored."""
    document = b'{"order_id": "o", "colour": {"deep": [1]}}'
    assert TYPES.decode(OrderPlaced, document) == OrderPlaced("o")


def sending(**changes: object) -> bytes:
    """A sending event with some fields replaced."""
    return json({**SENDING, **changes})


def without(field: str) -> bytes:
    """A sending event that lacks a field."""
    return json({name: value for name, value in SENDING.items() if name != field})


@pytest.mark.parametrize(
    ("cls", "body", "path", "reason"),
    [
        (SendingEvent, sending(handler_id=5), "$.handler_id", ""),
        (SendingEvent, sending(events={}), "$.events", ""),
        (SendingEvent, sending(events=[SENDING, 1]), "$.events[1]", ""),
        (SendingEvent, sending(end_event_time="soon"), "$.end_event_time", ""),
        (SendingEvent, without("account_id"), "$", "account_id"),
        (MonitoringEvent, b"{}", "$", "points"),
        (MonitoringEvent, b'{"points": [{}]}', "$.points[0]", "series"),
        (MonitoringEvent, points(time="2024-05-01T10:00:00"), "$.points[1].time", ""),
        (MonitoringEvent, points(tags={"a": None}), "$.points[1].tags[...]", ""),
        (MonitoringEvent, points(fields={"a": [1]}), "$.points[1].fields[...]", ""),
        (Visit, b'{"at": "2024-05-01T10:00:00"}', "$.at", ""),
        (OrderPlaced, b'{"order_id": "o", "total": "1"}', "$.total", ""),
        (OrderPlaced, b'{"order_id": "o", "total": 1e999}', "$.total", ""),
        (OrderPlaced, b"[]", "$", ""),
        (Tally, b'{"counts": {"a": 1}}', "$.counts", ""),
        (Tally, b'{"counts": {"1": "a"}}', "$.counts[...]", ""),
        (Even, b'{"number": 3}', "$", "number is odd"),
    ],
)
def test_a_wrong_field_is_an_error_with_its_path(
    cls: type[Event], body: bytes, path: str, reason: str
) -> None:
    """The error about a document names the event, the path and the reason."""
    with pytest.raises(EventDecodeError) as caught:
        TYPES.decode(cls, body)
    error = caught.value
    assert error.event == cls.__event_name__
    assert error.path == path
    assert error.reason
    assert "$" not in error.reason
    assert reason in error.reason
    assert str(error) == f"{error.event}: {error.reason} at {error.path}"


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"order_id": "o"}}', b"\xff", b'{"order_id": "\xff"}']
)
def test_no_json(body: bytes) -> None:
    """A body that is no JSON, or no UTF-8, is an error at the root."""
    with pytest.raises(EventDecodeError) as caught:
        TYPES.decode(OrderPlaced, body)
    assert (caught.value.event, caught.value.path) == ("order_placed", "$")
    assert caught.value.reason


def test_an_empty_document() -> None:
    """The error about an empty document says that it is empty."""
    with pytest.raises(EventDecodeError) as caught:
        TYPES.decode(OrderPlaced, b"")
    assert caught.value.reason == "the document is empty"


@pytest.mark.parametrize(
    ("cls", "body"),
    [
        (SendingEvent, b'{"events": [{"a": %s}]}' % (b"[" * 100_000 + b"]" * 100_000)),
        (OrderPlaced, b'{"ignored": %s}' % (b"[" * 100_000 + b"]" * 100_000)),
        (OrderPlaced, b'{"a": ' * 100_000),
    ],
)
def test_deep_nesting_is_a_decode_error(cls: type[Event], body: bytes) -> None:
    """A document that is nested a hundred thousand levels deep is refused."""
    with pytest.raises(EventDecodeError, match="nested too deeply"):
        TYPES.decode(cls, body)


def test_undecodable_type() -> None:
    """A senseless annotation is reported when the types are collected, not at an event."""
    with pytest.raises(ConfigurationError) as caught:
        EventTypes([Undecodable])
    line = inspect.getsourcelines(Undecodable)[1]
    assert str(caught.value).startswith(f"{__file__}:{line} (Undecodable) ")
    assert "Nowhere" in str(caught.value)


def test_a_shared_default_is_refused() -> None:
    """A list that all events would share is refused as a default."""
    with pytest.raises(DefinitionError, match=r"tags: .*attrs.field\(factory=list\)"):

        class Tagged(Event):  # pyright: ignore[reportUnusedClass]
            tags: list[str] = []  # noqa: RUF012


def test_a_converter_is_refused() -> None:
    """A converter is refused, since decoding from JSON would not call it."""
    with pytest.raises(DefinitionError, match="a converter is not called"):

        class Converted(Event):  # pyright: ignore[reportUnusedClass]
            word: str = attrs.field(converter=str.upper)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(5)


class Checked(Event):
    amount: int

    def __attrs_post_init__(self) -> None:
        raise LEAVING[self.amount]


LEAVING = [
    GeneratorExit(),
    UnspeakableError(),
    SystemExit(5),
    BaseExceptionGroup("", [SystemExit()]),
]


@pytest.mark.parametrize("which", range(len(LEAVING)))
def test_whatever_a_check_raises_is_a_decode_error(which: int) -> None:
    """Any exception of an author's check is a decode error of that event alone."""
    with pytest.raises(EventDecodeError, match="checked"):
        EventTypes([Checked]).decode(Checked, json({"amount": which}))
