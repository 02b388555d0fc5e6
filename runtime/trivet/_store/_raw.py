"""The rows that are on the pages of a file, whatever leads to them: SQLite's format, read by hand.

Owns the form of a page, a cell and a record, as https://www.sqlite.org/fileformat.html has it.
Never knows tables: a row is its number and its values.

A page of a file that is damaged may be anything, and so may a row. The caller says by their numbers
which ones are real; an event never changes, so that an old copy of it is as good as the last.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

Value = bytes | str | float | int | None

LEAF = 13
"""The first byte of a page that has rows of a table."""
HEADER = 100
"""Bytes at the beginning of the file, before its first page's own."""
INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Bytes of integers, by their types in a record."""
CONSTANTS = {0: None, 8: 0, 9: 1}
REAL = 7
FIRST_BYTES = 12
"""The type from which on a value is bytes, or text where the type is odd."""


def rows(path: Path, page_size: int, columns: int) -> Iterator[tuple[int, list[Value]]]:
    """The number and the values of each row that is on any page.

    Args:
        path: the file.
        page_size: bytes of a page.
        columns: values of a row; others are left out.
    """
    with path.open("rb") as file:
        while page := file.read(page_size):
            place = file.tell()
            start = HEADER if place == page_size else 0
            if len(page) == page_size and page[start] == LEAF:
                yield from _of_page(file, page, start, columns)
                file.seek(place)


def _of_page(
    file: BinaryIO, page: bytes, start: int, columns: int
) -> Iterator[tuple[int, list[Value]]]:
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    for at in range(start + 8, min(start + 8 + 2 * count, len(page) - 1), 2):
        try:
            number, record = _cell(file, page, int.from_bytes(page[at : at + 2], "big"))
            values = _values(record, columns)
        except (IndexError, ValueError, struct.error):  # It is no cell.
            continue
        if values is not None:
            yield number, values


def _cell(file: BinaryIO, page: bytes, at: int) -> tuple[int, bytes]:
    """The number and the record of a cell; what has no room on the page is on others."""
    size, at = _varint(page, at)
    number, at = _varint(page, at)
    if size < 0:
        raise ValueError("no record has this size")
    usable = len(page)
    here = most = usable - 35
    if size <= most:
        here = size
    else:
        least = (usable - 12) * 32 // 255 - 23
        here = least + (size - least) % (usable - 4)
        here = here if here <= most else least
    parts, left = [page[at : at + here]], size - here
    at += here
    link = page[at : at + 4]
    while left > 0:
        number_of_page = int.from_bytes(link, "big")
        file.seek(max(0, number_of_page - 1) * usable)
        more = file.read(usable)
        if number_of_page == 0 or len(more) < usable:
            raise ValueError("there is no such page")
        link, part = more[:4], more[4 : 4 + left]
        parts.append(part)
        left -= len(part)
    return number, b"".join(parts)


def _values(record: bytes, columns: int) -> list[Value] | None:
    """The values of a record; None if they are more or less than a row has."""
    end, at = _varint(record, 0)
    types: list[int] = []
    while at < end:
        kind, at = _varint(record, at)
        types.append(kind)
    if len(types) != columns:
        return None
    values: list[Value] = []
    for kind in types:
        value, at = _value(record, at, kind)
        values.append(value)
    if at > len(record):
        raise ValueError("the record is cut off")
    return values


def _value(record: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind in CONSTANTS:
        return CONSTANTS[kind], at
    if kind in INTEGERS:
        end = at + INTEGERS[kind]
        return int.from_bytes(record[at:end], "big", signed=True), end
    if kind == REAL:
        real: float = struct.unpack_from(">d", record, at)[0]
        return real, at + 8
    if kind < FIRST_BYTES:
        raise ValueError("no value has this type")
    end = at + (kind - FIRST_BYTES) // 2
    value = record[at:end]
    return (str(value, errors="backslashreplace") if kind % 2 else value), end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer of one to nine bytes, and the place behind it."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    value = value << 8 | data[at]
    return value - (1 << 64 if value >> 63 else 0), at + 1
