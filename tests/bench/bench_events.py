"""Making an event, beside the same class in msgspec and in attrs.

    python tests/bench/bench_events.py [--quick]

An event has three fields, and is made in a loop. Beside it, in turns: a frozen msgspec struct, and
a frozen attrs class with a dict, which is what an event was once. What counts is the processor's
time, without that of the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

import attrs
import msgspec
from attrs.validators import instance_of
from pairs import QUICK, Table, pairs

from trivet import Event

EVENTS = 50_000 if QUICK else 500_000
"""In one round."""


class Ordered(Event):
    """The event."""

    order_id: str
    number: int
    total: float = 0.0


class Checked(Event):
    """The event, with a validator."""

    order_id: str
    number: int = attrs.field(validator=instance_of(int))
    total: float = 0.0


class Struct(msgspec.Struct, frozen=True):
    """The same in msgspec."""

    order_id: str
    number: int
    total: float = 0.0


@attrs.frozen(slots=False)
class Attrs:
    """The same in attrs."""

    order_id: str
    number: int
    total: float = 0.0


@attrs.frozen(slots=False)
class CheckedAttrs:
    """The same in attrs, with a validator."""

    order_id: str
    number: int = attrs.field(validator=instance_of(int))
    total: float = 0.0


Make = Callable[..., object]


def by_position(make: Make) -> Callable[[], float]:
    """A second's instances, whose values are given by position."""

    def measure() -> float:
        began = process_time()
        for number in range(EVENTS):
            make("o-1", number, 0.5)
        return EVENTS / (process_time() - began - loop())

    return measure


def by_keyword(make: Make) -> Callable[[], float]:
    """A second's instances, whose values are given by keyword."""

    def measure() -> float:
        began = process_time()
        for number in range(EVENTS):
            make(order_id="o-1", number=number, total=0.5)
        return EVENTS / (process_time() - began - loop())

    return measure


def from_json(make: type[object]) -> Callable[[], float]:
    """A second's instances, made of JSON."""
    decode: Make = msgspec.json.Decoder(make).decode

    def measure() -> float:
        began = process_time()
        for _ in range(EVENTS):
            decode(b'{"order_id":"o-1","number":5,"total":0.5}')
        return EVENTS / (process_time() - began - loop())

    return measure


def loop() -> float:
    """The time of the loop alone."""
    began = process_time()
    for _ in range(EVENTS):
        pass
    return process_time() - began


def main() -> None:
    """Measure, and print the table."""
    table = Table("making an event", "events/s")
    rate, ratio = pairs(by_position(Ordered), by_position(Struct))
    table.row("three fields", rate.median, "a msgspec struct", ratio.inverse(), "≤ 2")
    rate, ratio = pairs(by_position(Ordered), by_position(Attrs))
    table.row("three fields", rate.median, "attrs, frozen, with a dict", ratio)
    rate, ratio = pairs(by_keyword(Ordered), by_keyword(Struct))
    table.row("by keyword", rate.median, "a msgspec struct", ratio.inverse(), "≤ 2")
    rate, ratio = pairs(by_keyword(Ordered), by_keyword(Attrs))
    table.row("by keyword", rate.median, "attrs, frozen, with a dict", ratio)
    rate, ratio = pairs(by_position(Checked), by_position(CheckedAttrs))
    table.row("with a validator", rate.median, "attrs, frozen, with a dict", ratio)
    rate, ratio = pairs(from_json(Ordered), from_json(Attrs))
    table.row("from JSON", rate.median, "attrs, frozen, with a dict", ratio)


if __name__ == "__main__":
    main()
