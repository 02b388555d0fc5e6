"""The estimate of a document's memory is never far below the truth."""

from __future__ import annotations

import tracemalloc
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis.strategies import binary, sampled_from

from trivet import Event, EventTooLargeError
from trivet._events._sizes import EVENT, LIST, OBJECT, VALUE, estimated_bytes
from trivet._events._types import EventTypes


@attrs.frozen
class Item:
    sku: str
    count: int
    tags: dict[str, str] = attrs.field(factory=dict[str, str])


class Ordered(Event):
    number: int = 0
    items: list[Item] = attrs.field(factory=list[Item])
    extra: Any = None


TYPES = EventTypes([Ordered])


def extra(begin: str, element: str, end: str, count: int) -> bytes:
    """A document with `count` elements; `%d` in an element is a number of its own."""
    elements = [element.replace("%d", str(10**6 + number)) for number in range(count)]
    return f'{{"extra":{begin}{",".join(elements)}{end}}}'.encode()


TYPICAL = {
    "texts": extra("[", '"order %d was placed"', "]", 20_000),
    "short texts": extra("[", '"%d"', "]", 20_000),
    "accents": extra("[", '"café %d"', "]", 20_000),
    "Chinese": extra("[", '"订单%d已经下了"', "]", 20_000),
    "keys": extra("{", '"k%d":"v%d"', "}", 20_000),
    "objects": extra("[", '{"id":%d,"name":"n%d"}', "]", 20_000),
    "nested objects": extra("[", '{"a":{"b":{"c":"v%d"}}}', "]", 20_000),
    "nested arrays": extra("[", "[[[[[%d]]]]]", "]", 20_000),
    "numbers": extra("[", "%d.5", "]", 20_000),
    "points": extra("[", '{"x":%d,"y":%d.5,"label":"p%d","tags":["a","b"]}', "]", 20_000),
    "a long text": extra("[", '"' + "word " * 100_000 + '"', "]", 1),
    "items": b'{"items":['
    + b",".join(b'{"sku":"s%d","count":%d,"tags":{"a":"t%d"}}' % (n, n, n) for n in range(20_000))
    + b"]}",
}
DENSE = {
    "empty objects": extra("[", "{}", "]", 50_000),
    "empty arrays": extra("[", "[]", "]", 50_000),
    "deep": extra("[", "[" * 400 + "]" * 400, "]", 50),
    "one wide character": extra("[", '"' + "a" * 100_000 + "😀" + '"', "]", 1),
    "escapes": extra("[", '"' + "a" * 100_000 + r"\ud83d\ude00" + '"', "]", 1),
    "small numbers": extra("[", "1", "]", 50_000),
    "one event": b"{}",
}


def taken(document: bytes) -> int:
    """Bytes that the event takes, as Python measures them."""
    TYPES.decode(Ordered, b"{}")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        event = TYPES.decode(Ordered, document)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert event is not None
    return after - before


@pytest.mark.parametrize("document", TYPICAL.values(), ids=TYPICAL)
def test_a_typical_document_is_estimated_well(document: bytes) -> None:
    """An event takes between two fifths of its estimate and a quarter more than it."""
    assert 0.8 * taken(document) <= estimated_bytes(document) <= 2.5 * taken(document)


@pytest.mark.parametrize("document", DENSE.values(), ids=DENSE)
def test_densest_documents(document: bytes) -> None:
    """No document, however dense, takes more than twice its estimate."""
    assert taken(document) <= 2 * estimated_bytes(document)


def by_the_definition(document: bytes) -> int:
    """The estimate, character by character."""
    is_wide = not document.isascii() or b"\\u" in document
    worth = {b",": VALUE, b":": VALUE, b"[": LIST, b"{": OBJECT}
    marks = sum(worth.get(bytes([each]), 0) for each in document)
    return EVENT + len(document) * (2 if is_wide else 1) + marks


@given(binary(max_size=30), sampled_from([1, 40, 100]))
@example(b"\\u", 1)
@example(b"\\U\\", 40)
def test_long_and_short_documents_are_counted_alike(part: bytes, times: int) -> None:
    """Above a kilobyte the characters are counted in another way."""
    document = (part + b',:[{"a\\n"}]') * times
    assert estimated_bytes(document) == by_the_definition(document)


def test_the_estimate_looks_at_bytes_only() -> None:
    """A document that is no JSON has an estimate too, since nothing is decoded for it."""
    assert estimated_bytes(b"{{{{,") > 4 * 64
    assert estimated_bytes(msgspec.json.encode("text")) < 1000


async def test_a_small_document_is_decoded_without_a_wait() -> None:
    """The size is that of `decode_within`; a document for a thread is none of the small ones."""
    small, large = b'{"number":1}', extra("[", '"%d"', "]", 10_000)
    assert TYPES.decode_small(Ordered, small, 10**6) == (Ordered(1), estimated_bytes(small))
    assert TYPES.decode_small(Ordered, large, 10**8) is None
    event, size = await TYPES.decode_within(Ordered, large, 10**8)
    assert (len(event.extra), size) == (10_000, estimated_bytes(large))
    assert await TYPES.decode_within(Ordered, small, 10**6) == (Ordered(1), estimated_bytes(small))


@pytest.mark.parametrize("count", [1, 10_000])
async def test_a_document_above_the_limit_is_not_decoded(count: int) -> None:
    """Neither where it is small, nor where a thread would decode it."""
    document = extra("[", "what is no JSON at all %d", "]", count)
    with pytest.raises(EventTooLargeError):
        await TYPES.decode_within(Ordered, document, 500)
