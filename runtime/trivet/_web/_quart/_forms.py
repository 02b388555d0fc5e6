"""Quart's form parser, with a limit for everything that a form may have.

Owns the limits of forms, and the turns in which a form is parsed.
Never knows how a body is received from its client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import IO, Any
from urllib.parse import unquote_to_bytes

import trio
from quart.formparser import MultiPartParser
from quart_trio.formparser import TrioFormDataParser
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Field, File, MultipartDecoder, NeedData, State

from .._bodies import Body

MAX_PARTS = 1000
"""Fields and files that a form may have; Quart's default."""
MAX_FIELD_BYTES = 500_000
"""Bytes that the fields of a form may have together; Quart's default for each of them."""
MAX_PART_HEAD_BYTES = 8 * 1024
"""Bytes that the headers of one part of a form may have."""
BYTES_PER_TURN = 4 * 1024
"""Bytes of a form that are parsed before others have their turn."""

Form = tuple[MultiDict[str, str], MultiDict[str, Any]]
"""The fields and the files."""


class LimitedFormParser(TrioFormDataParser):
    """Quart's parser, with limits, and with turns for others."""

    async def parse(  # type: ignore[override]  # Quart's body is of another class.
        self,
        body: Body,
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> Form:
        """Parse the whole form; a body that is not a form is an empty one, as in Quart.

        Raises:
            RequestEntityTooLarge: it is beyond a limit.
        """
        try:
            if mimetype == "multipart/form-data":
                boundary = (options or {}).get("boundary", "").encode("ascii")
                return await self._read_parts(body, boundary, content_length)
            if mimetype in ("application/x-www-form-urlencoded", "application/x-url-encoded"):
                return await self._read_pairs(body)
        except ValueError:
            pass  # The boundary is missing, or the bytes are no text.
        return MultiDict(), MultiDict()

    async def _read_pairs(self, body: Body) -> Form:
        whole = bytearray()
        async for data in body:
            whole += data
            _refuse_if(len(whole) > MAX_FIELD_BYTES or whole.count(b"&") >= MAX_PARTS)
        pairs: list[tuple[str, str]] = []
        for pair in bytes(whole).split(b"&"):
            name, equals, value = pair.partition(b"=")
            if name or equals:
                pairs.append((await _decode(name), await _decode(value)))
        return MultiDict(pairs), MultiDict()

    async def _read_parts(self, body: Body, boundary: bytes, length: int | None) -> Form:
        if not boundary:
            raise ValueError("a boundary is missing")
        decoder = MultipartDecoder(boundary, max_parts=MAX_PARTS)
        parts = _Parts(self, length or 0)
        try:
            async for piece in _Pieces(body):
                if decoder.state is State.EPILOGUE:
                    continue
                decoder.receive_data(piece)
                while not isinstance(event := decoder.next_event(), NeedData):
                    parts.handle(event)
                is_in_head = decoder.state in (State.PREAMBLE, State.PART)
                _refuse_if(is_in_head and len(decoder.buffer) > MAX_PART_HEAD_BYTES)
        except BaseException:
            parts.close()
            raise
        parts.drop_unfinished()
        return MultiDict(parts.fields), MultiDict(parts.files)


class _Parts:
    """The fields and the files of a form, as far as they were parsed."""

    def __init__(self, parser: LimitedFormParser, length: int) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, Any]] = []
        self._parser = parser
        self._quart = MultiPartParser(file_storage_cls=parser.file_storage_class)
        self._length = length
        self._part: Field | File | None = None
        self._content: bytearray | IO[bytes] = bytearray()
        self._size = 0

    def handle(self, event: object) -> None:
        """Begin a part, add data to it, or end it."""
        if isinstance(event, File):
            self._part = event
            self._content = self._quart.start_file_streaming(event, self._length)
        elif isinstance(event, Field):
            self._part = event
            self._content = bytearray()
        elif isinstance(event, Data) and self._part is not None:
            self._add(event.data)
            if not event.more_data:
                self._end(self._part)

    def close(self) -> None:
        """Close the files, which no handler is given."""
        for _, file in self.files:
            file.close()
        self.drop_unfinished()

    def drop_unfinished(self) -> None:
        """Close the file that has not ended, if there is one."""
        if not isinstance(self._content, bytearray):
            self._content.close()

    def _add(self, data: bytes) -> None:
        if isinstance(self._content, bytearray):
            self._size += len(data)
            _refuse_if(self._size > MAX_FIELD_BYTES)
            self._content += data
        else:
            self._content.write(data)

    def _end(self, part: Field | File) -> None:
        if isinstance(self._content, bytearray):
            charset = self._quart.get_part_charset(part.headers)
            self.fields.append((part.name, self._content.decode(charset, "replace")))
        elif isinstance(part, File):
            self._content.seek(0)
            storage = self._parser.file_storage_class
            file = storage(self._content, part.filename, part.name, headers=part.headers)
            self.files.append((part.name, file))
        self._content = bytearray()


async def _decode(encoded: bytes) -> str:
    """A name or a value of a form, decoded in turns."""
    whole = bytearray()
    while encoded:
        # A piece does not end within an escape of three bytes.
        end = encoded.rfind(b"%", BYTES_PER_TURN - 2, BYTES_PER_TURN)
        end = BYTES_PER_TURN if end < 0 else end
        whole += unquote_to_bytes(encoded[:end].replace(b"+", b" "))
        encoded = encoded[end:]
        await trio.lowlevel.checkpoint()
    return whole.decode(errors="replace")


class _Pieces:
    """A body in small pieces, between which others have their turn."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._data = b""
        self._at = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._at >= len(self._data):
            self._data, self._at = await anext(self._body), 0
        await trio.lowlevel.checkpoint()
        piece = self._data[self._at : self._at + BYTES_PER_TURN]
        self._at += BYTES_PER_TURN
        return piece


def _refuse_if(is_too_large: bool) -> None:
    if is_too_large:
        raise RequestEntityTooLarge
