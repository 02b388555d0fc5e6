"""Colliding numbers: chosen by an attacker so that a dictionary of them takes quadratic time.

Owns the question which types put numbers into dictionaries and sets, and the search for such
numbers in a document.
Never knows events, nor who sent a document.

Python hashes strings with a secret, and numbers without one: numbers that differ by a multiple of
2**61 - 1 have the same hash. Sixteen thousand of them, in half a megabyte, take twenty seconds.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator

import attrs
import msgspec.inspect as kinds

SHORT = 16 * 1024
"""Bytes of a document that is too short for a harmful number of collisions; nobody need ask."""
COLLISIONS = 50
"""Different numbers of one hash, in one document, that cannot be an accident."""

_LONG = re.compile(rb"[0-9]{19,4000}|[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}")
"""Numbers that may exceed the modulus, and UUIDs, which are hashed as numbers."""
_NUMBERS = (kinds.IntType, kinds.FloatType, kinds.DecimalType, kinds.UUIDType)
_CHILDREN = ("type", "item_type", "key_type", "value_type")
_SEVERAL = ("types", "item_types", "fields")


def collide(document: bytes) -> bool:
    """Whether a document has too many numbers of the same hash.

    >>> collide(b",".join(b"%d" % (number * (2**61 - 1)) for number in range(1, 100)))
    True
    >>> collide(b",".join(b"%d" % (number + 2**61) for number in range(1, 100)))
    False
    """
    hashes = Counter(_hash(token) for token in set(_LONG.findall(document)))
    return max(hashes.values(), default=0) > COLLISIONS


def _hash(token: bytes) -> int:
    text = token.decode()
    number = int(text) if text.isdigit() and len(text) != 32 else int(text.replace("-", ""), 16)
    return number % sys.hash_info.modulus


def hashes_numbers(cls: type) -> bool:
    """Whether values of this type contain dictionaries with numbers as keys, or sets of numbers."""
    return any(_hashed(kind) for kind in parts_of(kinds.type_info(cls), set()))


def _hashed(kind: kinds.Type) -> bool:
    if isinstance(kind, kinds.DictType):
        return _has_numbers(kind.key_type)
    return isinstance(kind, (kinds.SetType, kinds.FrozenSetType)) and _has_numbers(kind.item_type)


def _has_numbers(kind: kinds.Type) -> bool:
    return any(isinstance(each, (*_NUMBERS, kinds.AnyType)) for each in parts_of(kind, set()))


def parts_of(kind: kinds.Type, begun: set[type]) -> Iterator[kinds.Type]:
    """A type and all its parts; classes that have begun are left out."""
    yield kind
    cls = getattr(kind, "cls", None)
    if cls is not None:
        if cls in begun:  # It contains itself.
            return
        begun.add(cls)
    for child in _children(kind):
        yield from parts_of(child, begun)


def _children(kind: kinds.Type) -> Iterator[kinds.Type]:
    for name in _CHILDREN:
        child = getattr(kind, name, None)
        if isinstance(child, kinds.Type):
            yield child
    for name in _SEVERAL:
        for child in getattr(kind, name, ()):
            yield child.type if isinstance(child, kinds.Field) else child


@attrs.define
class Collisions:
    """Looks for colliding numbers in documents of the types that hash numbers."""

    _hashing: dict[type, bool] = attrs.field(factory=dict[type, bool])

    def are_in(self, document: bytes, cls: type) -> bool:
        """Whether a document must not be decoded into this type."""
        if cls not in self._hashing:
            self._hashing[cls] = hashes_numbers(cls)
        return self._hashing[cls] and collide(document)
