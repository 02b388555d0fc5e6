"""Examples of events have a right value in each field that has no default."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pytest

from trivet import DefinitionError, Event, MonitoringEvent, SendingEvent, Timestamp, encode_event


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Size(TypedDict):
    width: int


class Place(NamedTuple):
    street: str


@attrs.frozen
class Node:
    name: str
    children: list[Node]
    weight: float = 2.0


class Everything(Event):
    text: str
    number: int
    share: float
    flag: bool
    moment: Timestamp
    naive: datetime
    id: UUID
    price: Decimal
    colour: Colour
    kind: Literal["a", "b"]
    maybe: str | None
    either: int | str
    node: Node
    size: Size
    place: Place
    pair: tuple[int, str]
    tags: dict[str, int]
    names: set[str]
    anything: Any
    given: int = 3


class Bounded(Event):
    long: Annotated[str, msgspec.Meta(min_length=12)]
    short: Annotated[str, msgspec.Meta(max_length=2)]
    many: Annotated[list[int], msgspec.Meta(min_length=3)]
    none: Annotated[list[int], msgspec.Meta(max_length=0)]
    keyed: Annotated[dict[str, int], msgspec.Meta(min_length=1)]
    multiple: Annotated[int, msgspec.Meta(gt=5, multiple_of=4)]
    small: Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
    negative: Annotated[int, msgspec.Meta(lt=0)]
    large: Annotated[int, msgspec.Meta(ge=100)]


@pytest.mark.parametrize("event", [Everything, Bounded, MonitoringEvent, SendingEvent])
def test_an_example_is_an_event_as_it_comes_from_outside(event: type[Event]) -> None:
    """Every field has a value of its type, within its limits, so that it survives its JSON."""
    example = event.example()
    assert msgspec.json.decode(encode_event(example), type=event) == example


def test_an_example_keeps_what_is_given() -> None:
    """A test gives what matters to it; a field with a default keeps that."""
    example = Everything.example(number=7, maybe="yes")
    assert (example.number, example.maybe, example.given, example.text) == (7, "yes", 3, "text")


def test_an_example_of_what_holds_itself_ends() -> None:
    """A list of the class in which it is stays empty."""
    assert Everything.example().node == Node("name", [])


def test_a_misspelt_field_is_told() -> None:
    """A field that the event has not is an error with the nearest name."""
    with pytest.raises(TypeError, match="Everything has no field 'nmber'; did you mean 'number'"):
        Everything.example(nmber=1)


class Patterned(Event):
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]


class Nested(Event):
    items: list[Patterned]


@pytest.mark.parametrize(("event", "field"), [(Patterned, "code"), (Nested, "items")])
def test_a_type_without_an_example_asks_for_a_value(event: type[Event], field: str) -> None:
    """The error names the event's field, and how to give it."""
    with pytest.raises(
        DefinitionError, match=rf"{event.__name__}\.{field}: .*`\.example\({field}=…"
    ):
        event.example()
    assert Patterned.example(code="ABC").code == "ABC"


class Impossible(Event):
    number: Annotated[int, msgspec.Meta(gt=1, lt=2)]


def test_a_number_that_cannot_be_is_not_made_up() -> None:
    """Limits that no number keeps have no example."""
    with pytest.raises(DefinitionError, match="number"):
        Impossible.example()
