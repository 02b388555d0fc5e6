"""Payloads: written if they can be read again, else refused with the path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple, TypedDict

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet import Event, EventEncodeError, EventTypes, encode_event

NAN, INFINITY = float("nan"), float("inf")


class Colour(Enum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


@attrs.frozen
class Item:
    price: float | None = None
    more: Any = None
    part: Item | None = None


@dataclass
class Plain:
    weight: float


class Place(NamedTuple):
    at: float


class Typed(TypedDict, total=False):
    score: float | None


class Raw(msgspec.Struct):
    data: Any


class Measured(Event):
    number: int = 0
    strict: float = 0.0
    loose: float | None = None
    more: Any = None
    table: dict[str, Any] = attrs.Factory(dict[str, Any])
    rows: list[dict[str, float | None]] = attrs.Factory(list[dict[str, float | None]])
    items: list[Item] = attrs.Factory(list[Item])
    by_number: dict[int, float] = attrs.Factory(dict[int, float])
    pair: tuple[datetime, Any] | None = None
    plain: Plain | None = None
    place: Place | None = None
    typed: Typed | None = None
    raw: Raw | list[int] | None = None
    when: datetime | None = None
    kind: Colour | None = None
    cost: Decimal | None = None


def refusal(event: Event, *, exact: bool = True) -> str:
    """The path and the reason for which the event is refused."""
    with pytest.raises(EventEncodeError) as caught:
        encode_event(event, exact=exact)
    assert caught.value.event == event.__event_name__
    return f"{caught.value.path} {caught.value.reason}"


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (Measured(strict=NAN), "$.strict"),
        (Measured(loose=INFINITY), "$.loose"),
        (Measured(more=-INFINITY), "$.more"),
        (Measured(more={"scores": [1.0, NAN]}), "$.more.scores[1]"),
        (Measured(table={"a": None, "b": {"c": NAN}}), "$.table.b.c"),
        (Measured(rows=[{}, {"a": 1.0, "b": NAN}]), "$.rows[1].b"),
        (Measured(items=[Item(1.0), Item(NAN)]), "$.items[1].price"),
        (Measured(items=[Item(part=Item(more=[NAN]))]), "$.items[0].part.more[0]"),
        (Measured(by_number={7: NAN}), "$.by_number.7"),
        (Measured(pair=(NOON, NAN)), "$.pair[1]"),
        (Measured(plain=Plain(NAN)), "$.plain.weight"),
        (Measured(place=Place(NAN)), "$.place.at"),
        (Measured(typed={"score": NAN}), "$.typed.score"),
        (Measured(raw=Raw({"a": NAN})), "$.raw.data.a"),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_json_has_no_such_number(event: Event, path: str, exact: bool) -> None:
    """NaN and infinity are refused wherever they are in an event."""
    where, _, reason = refusal(event, exact=exact).partition(" ")
    assert where == path
    assert "number" in reason


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        b"bytes",
        NOON,
        Decimal("1.5"),
        Colour.RED,
        {1: "a"},
        {"a": [{"b": (1,)}]},
        Item(),
        Plain(1.0),
    ],
)
def test_values_that_change(value: object) -> None:
    """A value of the type Any that comes back as another type is refused where exactness counts."""
    for event in (Measured(more=value), Measured(table={"a": value})):
        assert refusal(event).startswith(("$.more", "$.table.a"))
        assert encode_event(event)


@pytest.mark.parametrize(
    "event",
    [
        Measured(strict=-0.0, loose=1e308, more=None),
        Measured(strict=1, more=2**70),
        Measured(more={"a": [1, 2.5, None, True, "ü", {"b": []}]}, table={"a": {}}),
        Measured(more=Number.ONE),
        Measured(rows=[{"a": None, "b": 0.1}], items=[Item(), Item(1.0, [None], Item())]),
        Measured(by_number={7: 1.0}, pair=(NOON, [1]), typed={"score": None}),
        Measured(plain=Plain(1.0), place=Place(0.5), raw=[1], when=NOON, kind=Colour.RED),
        Measured(cost=Decimal("1.50")),
    ],
)
def test_values_that_come_back(event: Measured) -> None:
    """An annotated value comes back by its type, and one of JSON's own types as it is."""
    types = EventTypes([Measured])
    assert types.decode(Measured, encode_event(event, exact=True)) == event
    assert encode_event(event) == encode_event(event, exact=True)


def test_minus_zero_keeps_its_sign() -> None:
    """Minus zero is written and read as minus zero."""
    read = EventTypes([Measured]).decode(Measured, encode_event(Measured(strict=-0.0), exact=True))
    assert math.copysign(1, read.strict) == -1


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(more=json, loose=st.none() | st.floats())
def test_any_value_comes_back_or_is_refused(more: object, loose: float | None) -> None:
    """Every value of random types is equal when it is read again, or is refused."""
    event = Measured(more=more, loose=loose)
    try:
        written = encode_event(event, exact=True)
    except EventEncodeError:
        return
    assert EventTypes([Measured]).decode(Measured, written) == event


class Unfriendly:
    """An object that JSON does not know, and whose text raises."""

    def __repr__(self) -> str:
        raise KeyError("no text")


class Incomparable(list[int]):
    """A list whose comparison raises."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("no")


class Unprintable:
    """A key whose text raises."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Closed(list[object]):
    """A list whose iteration raises."""

    def __iter__(self) -> Iterator[object]:
        raise LookupError("no")


class Leaving(list[int]):
    """A value whose comparison ends the program."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        raise SystemExit(5)


def nested(depth: int) -> object:
    """Lists in one another, to a depth."""
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Unfriendly(), "$.more"),
        ({"a": [Unfriendly()]}, "$.more.a[0]"),
        ("\ud800", "$.more"),
        ({"a": "\ud800"}, "$.more.a"),
        ({"\ud800": 1}, "$.more"),
        ({(1, 2): 3}, "$.more"),
        (nested(100_000), "$"),
        ({Unprintable(): 3}, "$.more"),
        ({"a": {Unprintable(): object()}}, "$.more.a.<Unprintable>"),
        ({"a": Closed([object()])}, "$.more.a"),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_unwritable_values(value: object, path: str, exact: bool) -> None:
    """The error names the path, whatever the encoder raises, and can itself be written."""
    where, _, reason = refusal(Measured(more=value), exact=exact).partition(" ")
    assert where == path
    assert reason.encode()


def test_a_value_that_cannot_be_compared_is_refused() -> None:
    """A value whose `__eq__` raises is refused."""
    assert "ArithmeticError" in refusal(Measured(more=Incomparable([1])))
    assert "SystemExit" in refusal(Measured(more=Leaving([1])))
