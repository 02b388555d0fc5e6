"""Numbers that somebody chose so that a dictionary of them takes as long as the square of them.

Owns which types put numbers into dictionaries and sets, and the search for such numbers.
Never knows what an event is, nor who sent it.

Python hashes texts with a secret, and numbers without: those that differ by a multiple of 2**61 - 1
have the same hash. Sixteen thousand of them, in half a megabyte, take twenty seconds.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator

import attrs
import msgspec.inspect as kinds

FEW = 16 * 1024
"""Bytes of a document in which there is no room for enough of them."""
ALIKE = 50
"""Different numbers of one hash, in one document, that are no accident any more."""

_LONG = re.compile(rb"[0-9]{19,4000}|[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}")
"""Numbers that may be above that modulus, and UUIDs, which are hashed as numbers."""
_NUMBERS = (kinds.IntType, kinds.FloatType, kinds.DecimalType, kinds.UUIDType)
_CHILDREN = ("type", "item_type", "key_type", "value_type")
_SEVERAL = ("types", "item_types", "fields")


def collide(document: bytes) -> bool:
    """Whether there are too many numbers of the same hash in a document.

    >>> collide(b",".join(b"%d" % (number * (2**61 - 1)) for number in range(1, 100)))
    True
    >>> collide(b",".join(b"%d" % (number + 2**61) for number in range(1, 100)))
    False
    """
    hashes = Counter(_hash(token) for token in set(_LONG.findall(document)))
    return max(hashes.values(), default=0) > ALIKE


def _hash(token: bytes) -> int:
    text = token.decode()
    number = int(text) if text.isdigit() and len(text) != 32 else int(text.replace("-", ""), 16)
    return number % sys.hash_info.modulus


def hashes_numbers(cls: type) -> bool:
    """Whether a value of this type has dictionaries by number, or sets of numbers, in it."""
    return any(_hashed(kind) for kind in _parts(kinds.type_info(cls), set()))


def _hashed(kind: kinds.Type) -> bool:
    if isinstance(kind, kinds.DictType):
        return _has_numbers(kind.key_type)
    return isinstance(kind, (kinds.SetType, kinds.FrozenSetType)) and _has_numbers(kind.item_type)


def _has_numbers(kind: kinds.Type) -> bool:
    return any(isinstance(each, (*_NUMBERS, kinds.AnyType)) for each in _parts(kind, set()))


def _parts(kind: kinds.Type, begun: set[type]) -> Iterator[kinds.Type]:
    """A type, and all that it is made of."""
    yield kind
    cls = getattr(kind, "cls", None)
    if cls is not None:
        if cls in begun:  # It contains itself.
            return
        begun.add(cls)
    for child in _children(kind):
        yield from _parts(child, begun)


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
    """Looks for such numbers where a type would hash them."""

    _hashing: dict[type, bool] = attrs.field(factory=dict[type, bool])

    def are_in(self, document: bytes, cls: type) -> bool:
        """Whether a document must not be decoded into this type."""
        if len(document) <= FEW:
            return False
        if cls not in self._hashing:
            self._hashing[cls] = hashes_numbers(cls)
        return self._hashing[cls] and collide(document)
