"""The changes that are not in the file yet."""

from __future__ import annotations

from trivet._store._records import Delete, Settlement, Update
from trivet._store._unwritten import Unwritten, ends_in, number_of_events, one_by_one

FAILED = Update("a", 2, b"[]", None)


def test_the_ends_of_a_plugin_are_one_record() -> None:
    """Its length is that of the events, however few the records are."""
    unwritten = Unwritten()
    unwritten.end("a", 1, 10)
    unwritten.add(FAILED)
    unwritten.end("b", 1, 10)
    unwritten.end_all("a", [2, 3], [20, 30])
    assert len(unwritten) == 5
    everything = unwritten.take()
    assert everything == [FAILED, Delete("a", [1, 2, 3], [10, 20, 30]), Delete("b", [1], [10])]
    assert number_of_events(everything) == 5
    assert (len(unwritten), unwritten.take()) == (0, [])


def test_what_was_put_back_is_written_next() -> None:
    """Changes that were put back come first, and what ends from now on is no part of them."""
    unwritten = Unwritten()
    unwritten.end_all("a", [1, 2], [10, 20])
    left = unwritten.take()
    unwritten.end("a", 3, 30)
    unwritten.put_back(left)
    assert len(unwritten) == 3
    assert unwritten.take() == [Delete("a", [1, 2], [10, 20]), Delete("a", [3], [30])]


def test_one_by_one() -> None:
    """The changes of one event stay in their order, and its end is the last."""
    changes: list[Settlement] = [Delete("b", [4], [1]), Delete("a", [3, 2], [30, 20]), FAILED]
    assert one_by_one(changes) == [
        FAILED,
        Delete("a", [2], [20]),
        Delete("a", [3], [30]),
        Delete("b", [4], [1]),
    ]
    assert ends_in(changes) == {"b": [4], "a": [3, 2]}
