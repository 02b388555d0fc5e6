"""The author's code in the decoding of an event: whether there is any.

Owns the search for it in an event type and in the types of its fields.
Never knows what such code does, nor who decodes.
"""

from __future__ import annotations

from enum import Enum
from typing import get_origin

import msgspec
import msgspec.inspect as kinds

from ._collisions import parts_of
from ._event import Event

_METHODS = ("__post_init__", "__attrs_pre_init__", "__attrs_post_init__")
_PLAIN_FACTORIES = (list, dict, set, frozenset, tuple)


def runs_author_code(cls: type[Event]) -> bool:
    """Whether the decoding of an event may call a function that its author has written.

    Validators, factories and `__attrs_post_init__` are such functions; with a validator, an event
    class has a `__post_init__`.

    >>> import attrs
    >>> class OrderPlaced(Event):
    ...     order_id: str
    ...     notes: list[str] = attrs.field(factory=list)
    >>> class OrderNumbered(Event):
    ...     number: int = attrs.field(validator=attrs.validators.gt(0))
    >>> runs_author_code(OrderPlaced), runs_author_code(OrderNumbered)
    (False, True)
    """
    return any(_is_authors(kind) for kind in parts_of(kinds.type_info(cls), set()))


def _is_authors(kind: kinds.Type) -> bool:
    if isinstance(kind, kinds.CustomType):
        return True
    if isinstance(kind, kinds.EnumType):
        return getattr(kind.cls._missing_, "__func__", None) is not _MISSING
    if isinstance(kind, (kinds.StructType, kinds.DataclassType, kinds.NamedTupleType)):
        return any(hasattr(kind.cls, name) for name in _METHODS) or any(
            _plain(field.default_factory) not in (msgspec.NODEFAULT, *_PLAIN_FACTORIES)
            for field in kind.fields
        )
    return False


def _plain(factory: object) -> object:
    """The factory; `list` for `list[str]`."""
    return get_origin(factory) or factory


_MISSING = getattr(Enum._missing_, "__func__", None)
