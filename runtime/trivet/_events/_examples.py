"""Examples of events: values for the fields that a test does not care about.

Owns the value of each type that a field of an event may have.
Never knows what an author's validator asks for: what it refuses, the test has to give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import singledispatch
from typing import Any
from uuid import UUID

import attrs
from msgspec import inspect as types

from .._faults._errors import DefinitionError, nearest
from ._event_class import qualified_name

MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""The moment of an example."""


def field_values(cls: type, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an example: those that are given, and those that have no default.

    Args:
        cls: the event type.
        changes: values for fields, by name.

    Raises:
        TypeError: the class has no such field.
        DefinitionError: the type of a field has no example; it has to be given.
    """
    info = types.type_info(cls)
    assert isinstance(info, types.StructType)
    known = {field.name for field in info.fields}
    for name in changes:
        if name not in known:
            raise TypeError(f"{cls.__name__} has no field {name!r}; {nearest(name, known)}")
    place = qualified_name(cls)
    return {
        **{
            field.name: _value(field.type, _Place(field.name, f"{place}.{field.name}", (cls,)))
            for field in info.fields
            if field.required and field.name not in changes
        },
        **changes,
    }


Fields = types.StructType | types.DataclassType | types.TypedDictType | types.NamedTupleType


@attrs.frozen
class _Place:
    """The place where a value is needed."""

    name: str
    """The field, whose name is the example of a text."""
    of_event: str
    """The field of the event in which that is, for messages."""
    within: tuple[type, ...]
    """The classes of which an example is being made."""


@singledispatch
def _value(info: types.Type, place: _Place) -> Any:
    """The example of a type."""
    if type(info) not in _SIMPLE:
        raise _none(place)
    return _SIMPLE[type(info)]


_SIMPLE: dict[type[types.Type], object] = {
    types.AnyType: None,
    types.NoneType: None,
    types.BoolType: False,
    types.BytesType: b"",
    types.DateType: date(2026, 1, 1),
    types.TimeType: time(12),
    types.TimeDeltaType: timedelta(seconds=1),
    types.UUIDType: UUID(int=1),
    types.DecimalType: Decimal(1),
}


@_value.register
def _annotated(info: types.Metadata, place: _Place) -> Any:
    return _value(info.type, place)


@_value.register
def _union(info: types.UnionType, place: _Place) -> Any:
    return None if info.includes_none else _value(info.types[0], place)


@_value.register
def _enum(info: types.EnumType, _: _Place) -> Any:
    return next(iter(info.cls))


@_value.register
def _literal(info: types.LiteralType, _: _Place) -> Any:
    return info.values[0]


@_value.register
def _moment(info: types.DateTimeType, _: _Place) -> datetime:
    return MOMENT.replace(tzinfo=None) if info.tz is False else MOMENT


@_value.register
def _object(info: Fields, place: _Place) -> Any:
    place = attrs.evolve(place, within=(*place.within, info.cls))
    made = {
        field.name: _value(field.type, attrs.evolve(place, name=field.name))
        for field in info.fields
        if field.required
    }
    return made if isinstance(info, types.TypedDictType) else info.cls(**made)


@_value.register
def _mapping(info: types.DictType, place: _Place) -> dict[Any, Any]:
    count = info.min_length or 0
    if count > 1:
        raise _none(place)
    return {_value(info.key_type, place): _value(info.value_type, place) for _ in range(count)}


@_value.register
def _pair(info: types.TupleType, place: _Place) -> tuple[Any, ...]:
    return tuple(_value(each, place) for each in info.item_types)


@_value.register
def _several(
    info: types.ListType | types.SetType | types.FrozenSetType | types.VarTupleType, place: _Place
) -> Any:
    """A collection with one item, or none where the item would hold such a collection again."""
    kind, item_type = _COLLECTIONS[type(info)], info.item_type
    is_within = isinstance(item_type, Fields) and item_type.cls in place.within
    count = max(info.min_length or 0, 0 if is_within or info.max_length == 0 else 1)
    return kind(_value(item_type, place) for _ in range(count))


_COLLECTIONS: dict[type[types.Type], type[Any]] = {
    types.ListType: list,
    types.SetType: set,
    types.FrozenSetType: frozenset,
    types.VarTupleType: tuple,
}


@_value.register
def _text(info: types.StrType, place: _Place) -> str:
    if info.pattern is not None:
        raise _none(place)
    return place.name.ljust(info.min_length or 0, "x")[: info.max_length]


@_value.register
def _number(info: types.IntType | types.FloatType, place: _Place) -> int | float:
    """1, or else a number beside a limit, or between the limits."""
    least, most = info.gt, info.lt
    candidates = [1, info.ge, info.le]
    candidates += [] if least is None else [least + 1]
    candidates += [] if most is None else [most - 1]
    ends = [each for each in (least, info.ge, most, info.le) if each is not None]
    candidates += [sum(ends) / len(ends)] if ends else []
    step = info.multiple_of
    for candidate in candidates:
        if candidate is not None:
            number = candidate if step is None else math.ceil(candidate / step) * step
            number = int(number) if isinstance(info, types.IntType) else float(number)
            if _is_allowed(number, info):
                return number
    raise _none(place)


def _is_allowed(number: float, info: types.IntType | types.FloatType) -> bool:
    return (
        (info.gt is None or number > info.gt)
        and (info.ge is None or number >= info.ge)
        and (info.lt is None or number < info.lt)
        and (info.le is None or number <= info.le)
    )


def _none(place: _Place) -> DefinitionError:
    name = place.of_event.rpartition(".")[2]
    return DefinitionError(
        f"{place.of_event}: there is no example of this type; give one, `.example({name}=…)`"
    )
