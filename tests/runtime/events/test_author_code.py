"""The author's code in the decoding of an event."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, IntEnum
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pytest

from trivet import Event
from trivet._events._author_code import runs_author_code


class Colour(Enum):
    RED = "red"


class Lenient(Enum):
    RED = "red"

    @classmethod
    def _missing_(cls, value: object) -> Lenient:
        return cls.RED


class Size(IntEnum):
    SMALL = 1


@attrs.frozen
class Line:
    item: str
    tags: list[str] = attrs.field(factory=list[str])


@attrs.define
class Checked:
    item: str

    def __attrs_post_init__(self) -> None:
        """Check."""


class Part(msgspec.Struct):
    item: str


class CheckedPart(msgspec.Struct):
    item: str

    def __post_init__(self) -> None:
        """Check."""


class Pair(NamedTuple):
    left: int
    right: int


def make_note() -> str:
    """A default of the author's."""
    return "note"


class Plain(Event):
    order_id: str
    at: datetime
    key: UUID
    colour: Colour
    size: Size
    lines: list[Line]
    parts: dict[str, Part] | None = None
    pair: Pair = Pair(1, 2)
    anything: Any = None
    notes: list[str] = attrs.field(factory=list[str])


class Validated(Event):
    total: float = attrs.field(validator=attrs.validators.gt(0))


class Ended(Event):
    total: float

    def __attrs_post_init__(self) -> None:
        """Check."""


class Made(Event):
    note: str = attrs.field(factory=make_note)


class Below(Ended):
    note: str = ""


class WithLenient(Event):
    colours: list[Lenient]


class WithChecked(Event):
    lines: dict[str, list[Checked]]


class WithCheckedPart(Event):
    part: CheckedPart | None


def test_an_event_of_plain_values() -> None:
    """Records, enumerations and collections are read without calling a function of the author's."""
    assert not runs_author_code(Plain)


@pytest.mark.parametrize(
    "cls", [Validated, Ended, Made, Below, WithLenient, WithChecked, WithCheckedPart]
)
def test_an_event_with_code(cls: type[Event]) -> None:
    """Validators, factories and checks are the author's, however deep they are."""
    assert runs_author_code(cls)
