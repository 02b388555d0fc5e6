"""Colliding numbers are found before a dictionary of them is made."""

from __future__ import annotations

import json
from decimal import Decimal
from time import thread_time
from typing import Any
from uuid import UUID

import attrs
import pytest

from trivet import Event, EventDecodeError
from trivet._events._types import EventTypes

MODULUS = 2**61 - 1
COUNT = 20_000


@attrs.frozen
class Inner:
    by_number: dict[int, str] = attrs.field(factory=dict[int, str])
    inner: list[Inner] = attrs.field(factory=list["Inner"])


class Hashing(Event):
    by_number: dict[int, str] = attrs.field(factory=dict[int, str])
    numbers: set[int] = attrs.field(factory=set[int])
    frozen: frozenset[int | str] = frozenset()
    by_uuid: dict[UUID, int] = attrs.field(factory=dict[UUID, int])
    decimals: set[Decimal] = attrs.field(factory=set[Decimal])
    anything: set[Any] = attrs.field(factory=set[Any])
    inner: Inner = attrs.field(factory=Inner)


class Plain(Event):
    numbers: list[int]
    by_name: dict[str, int]
    extra: Any = None


TYPES = EventTypes([Hashing, Plain])
COLLISIONS = [MODULUS * number for number in range(1, COUNT)]
KEYS = {str(number): "a" for number in COLLISIONS}

CHOSEN: dict[str, dict[str, object]] = {
    "keys": {"by_number": KEYS},
    "set": {"numbers": COLLISIONS},
    "negative": {"numbers": [-number for number in COLLISIONS]},
    "frozen set": {"frozen": COLLISIONS},
    "UUIDs": {"by_uuid": {str(UUID(int=number)): 1 for number in COLLISIONS}},
    "decimals": {"decimals": [str(number) for number in COLLISIONS]},
    "anything": {"anything": COLLISIONS},
    "below": {"inner": {"inner": [{"inner": [{"by_number": KEYS}]}]}},
}


@pytest.mark.parametrize("document", CHOSEN.values(), ids=CHOSEN)
def test_chosen_numbers_are_refused(document: dict[str, object]) -> None:
    """Colliding numbers are refused at once; a dictionary of them would take half a minute."""
    body = json.dumps(document).encode()
    begun = thread_time()
    with pytest.raises(EventDecodeError):
        TYPES.decode(Hashing, body)
    assert thread_time() - begun < 2


def test_other_numbers() -> None:
    """Large numbers, repeated numbers and UUIDs are accepted."""
    numbers = [2**62 + 977 * number for number in range(COUNT)]
    uuids = {str(UUID(int=number * 2**64 + 12345 * number)): 1 for number in range(COUNT)}
    document = {"by_number": {str(number): "a" for number in numbers}, "by_uuid": uuids}
    event = TYPES.decode(Hashing, json.dumps(document).encode())
    assert len(event.by_number) == len(event.by_uuid) == COUNT
    same = TYPES.decode(Hashing, json.dumps({"numbers": [2**62] * COUNT}).encode())
    assert same.numbers == {2**62}


def test_numbers_that_are_not_hashed() -> None:
    """Colliding numbers are accepted in lists, as values, and as keys that stay strings."""
    document = {"numbers": COLLISIONS, "by_name": {"a": COLLISIONS[0]}, "extra": KEYS}
    event = TYPES.decode(Plain, json.dumps(document).encode())
    assert len(event.numbers) == len(event.extra) == COUNT - 1
