"""What a route reads of a request: text, JSON and forms, whatever its client has sent.

Owns their limits, the turns in which a form is read, and that what cannot be decoded is the
client's fault.
Never knows how a body is taken from its client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import IO, Any
from urllib.parse import unquote_to_bytes

import trio
from quart.formparser import MultiPartParser
from quart_trio.formparser import TrioFormDataParser
from werkzeug.datastructures import Authorization, MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Field, File, MultipartDecoder, NeedData, State

from ._bodies import Body
from ._bodies import Request as RequestWithBody

JSON_MARKS, JSON_ESCAPES = 50_000, 1_000_000
"""Commas, colons and opening brackets, and backslashes, that a JSON body may have: more would hold
the loop while they are decoded."""
FORM_PARTS = 1000
"""Fields and files that a form may have; Quart's default."""
FORM_MEMORY = 500_000
"""Bytes that the fields of a form may have together; Quart's default for each of them."""
PART_HEAD = 8 * 1024
"""Bytes that the headers of one part of a form may have."""
PIECE = 4 * 1024
"""Bytes of a form that are read before others have their turn."""

Form = tuple[MultiDict[str, str], MultiDict[str, Any]]
"""The fields and the files."""


class FormParser(TrioFormDataParser):
    """Quart's, with limits for all that a form may have, which takes a form in pieces."""

    async def parse(  # type: ignore[override]  # As in Quart, whose body is another.
        self,
        body: Body,
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> Form:
        """Read the whole form; what is no form is an empty one, as in Quart.

        Raises:
            RequestEntityTooLarge: it is beyond a limit.
        """
        try:
            if mimetype == "multipart/form-data":
                boundary = (options or {}).get("boundary", "").encode("ascii")
                return await self._parse_parts(body, boundary, content_length)
            if mimetype in ("application/x-www-form-urlencoded", "application/x-url-encoded"):
                return await self._parse_pairs(body)
        except ValueError:
            pass  # A boundary that is missing, or bytes that are no text.
        return MultiDict(), MultiDict()

    async def _parse_pairs(self, body: Body) -> Form:
        whole = bytearray()
        async for data in body:
            whole += data
            _refuse_if(len(whole) > FORM_MEMORY or whole.count(b"&") >= FORM_PARTS)
        pairs: list[tuple[str, str]] = []
        for pair in bytes(whole).split(b"&"):
            name, equals, value = pair.partition(b"=")
            if name or equals:
                pairs.append((await _text(name), await _text(value)))
        return MultiDict(pairs), MultiDict()

    async def _parse_parts(self, body: Body, boundary: bytes, length: int | None) -> Form:
        if not boundary:
            raise ValueError("a boundary is missing")
        decoder = MultipartDecoder(boundary, max_parts=FORM_PARTS)
        parts = _Parts(self, length or 0)
        try:
            async for piece in _pieces(body):
                if decoder.state is State.EPILOGUE:
                    continue
                decoder.receive_data(piece)
                while not isinstance(event := decoder.next_event(), NeedData):
                    parts.take(event)
                has_no_head = decoder.state in (State.PREAMBLE, State.PART)
                _refuse_if(has_no_head and len(decoder.buffer) > PART_HEAD)
        except BaseException:
            parts.close()
            raise
        parts.leave_out_the_last()
        return MultiDict(parts.fields), MultiDict(parts.files)


class _Parts:
    """The fields and the files of a form, as far as they were read."""

    def __init__(self, parser: FormParser, length: int) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[tuple[str, Any]] = []
        self._parser = parser
        self._making = MultiPartParser(file_storage_cls=parser.file_storage_class)
        self._length = length
        self._part: Field | File | None = None
        self._content: bytearray | IO[bytes] = bytearray()
        self._size = 0

    def take(self, event: object) -> None:
        """Take what was read."""
        if isinstance(event, File):
            self._part = event
            self._content = self._making.start_file_streaming(event, self._length)
        elif isinstance(event, Field):
            self._part = event
            self._content = bytearray()
        elif isinstance(event, Data) and self._part is not None:
            self._add(event.data)
            if not event.more_data:
                self._end(self._part)

    def close(self) -> None:
        """Close the files: nobody is given them."""
        for _, file in self.files:
            file.close()
        self.leave_out_the_last()

    def leave_out_the_last(self) -> None:
        """Close the file that has not ended, if there is one."""
        if not isinstance(self._content, bytearray):
            self._content.close()

    def _add(self, data: bytes) -> None:
        if isinstance(self._content, bytearray):
            self._size += len(data)
            _refuse_if(self._size > FORM_MEMORY)
            self._content += data
        else:
            self._content.write(data)

    def _end(self, part: Field | File) -> None:
        if isinstance(self._content, bytearray):
            charset = self._making.get_part_charset(part.headers)
            self.fields.append((part.name, self._content.decode(charset, "replace")))
        elif isinstance(part, File):
            self._content.seek(0)
            storage = self._parser.file_storage_class
            file = storage(self._content, part.filename, part.name, headers=part.headers)
            self.files.append((part.name, file))
        self._content = bytearray()


async def _text(encoded: bytes) -> str:
    """A name or a value of a form, decoded in turns."""
    whole = bytearray()
    while encoded:
        end = encoded.rfind(b"%", PIECE - 2, PIECE)  # Not within what stands for one byte.
        end = PIECE if end < 0 else end
        whole += unquote_to_bytes(encoded[:end].replace(b"+", b" "))
        encoded = encoded[end:]
        await trio.lowlevel.checkpoint()
    return whole.decode(errors="replace")


async def count_json(encoded: bytes) -> None:
    """Count what of a document takes time to be decoded, in turns.

    Raises:
        RequestEntityTooLarge: it is too much.
    """
    marks = escapes = 0
    for at in range(0, len(encoded), 1024 * 1024):
        some = encoded[at : at + 1024 * 1024]
        marks += sum(map(some.count, (b",", b":", b"[", b"{")))
        escapes += some.count(b"\\")
        _refuse_if(marks > JSON_MARKS or escapes > JSON_ESCAPES)
        if at:
            await trio.lowlevel.checkpoint()


class _pieces:  # noqa: N801 - as a function would be
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
        piece = self._data[self._at : self._at + PIECE]
        self._at += PIECE
        return piece


class Request(RequestWithBody):
    """Quart's, for which what its client has written is never the route's fault."""

    form_data_parser_class = FormParser

    async def get_data(  # type: ignore[override]  # As in Quart, which has one for each type.
        self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False
    ) -> bytes | str:
        """The whole body; 400 where it is to be text, and is none."""
        try:
            return await super().get_data(cache, as_text, parse_form_data)
        except UnicodeDecodeError:
            raise BadRequest("the body is no UTF-8") from None

    async def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body as JSON; 400 where it is none, and 413 where it has too many values."""
        if force or self.is_json:
            await count_json(await self.body)
        try:
            return await super().get_json(force, silent, cache)
        except (BadRequest, RecursionError):
            if silent:
                return None
            raise BadRequest("the body is no JSON that can be read") from None

    @property
    def authorization(self) -> Authorization | None:
        """The credentials of the client; None where they cannot be read."""
        try:
            return Authorization.from_header(self.headers.get("Authorization"))
        except ValueError:
            return None


def _refuse_if(is_too_large: bool) -> None:
    if is_too_large:
        raise RequestEntityTooLarge
