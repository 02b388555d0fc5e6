"""The one door to nats-py's inside: a client that reads on, and that closes in time.

Owns every override of nats-py, and the list of the names that are overridden or read. A subject or
headers that cannot be read cost no other message; nats-py alone would stop reading, or would drop
the headers in silence.
Never knows JetStream.
"""

# pyright: reportUnknownMemberType=false, reportPrivateUsage=false
# nats-py has keywords without types, and its parser calls private methods of its client.

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import AWAITING_CONTROL_LINE, AWAITING_MSG_PAYLOAD, Parser

INSIDE = {
    "nats.aio.client:Client.__init__": "(self)",
    "nats.aio.client:Client._build_message": "(self, sid, subject, reply, data, headers)",
    "nats.aio.client:Client._close": "async (self, status, do_cbs=...)",
    "nats.aio.client:Client._closed_cb": "attribute",
    "nats.aio.client:Client._current_server": "attribute",
    "nats.aio.client:Client._process_err": "async (self, err_msg)",
    "nats.aio.client:Client._process_headers": "async (self, headers)",
    "nats.aio.client:Client._process_info": "async (self, info, initial_connection=...)",
    "nats.aio.client:Client._process_msg": "async (self, sid, subject, reply, data, headers)",
    "nats.aio.client:Client._process_ping": "async (self)",
    "nats.aio.client:Client._process_pong": "async (self)",
    "nats.aio.client:Client._ps": "attribute",
    "nats.aio.client:Client._transport": "attribute",
    "nats.aio.transport:TcpTransport._io_writer": "attribute",
    "nats.protocol.parser:Parser.__init__": "(self, nc=...)",
    "nats.protocol.parser:Parser.buf": "attribute",
    "nats.protocol.parser:Parser.header_needed": "attribute",
    "nats.protocol.parser:Parser.msg_arg": "attribute",
    "nats.protocol.parser:Parser.needed": "attribute",
    "nats.protocol.parser:Parser.parse": "async (self, data=...)",
    "nats.protocol.parser:Parser.state": "attribute",
}
"""The undocumented names that are overridden or used here, each with the signature that is counted
on."""

FLUSH_WITHIN = 0.5
"""Seconds for unsent bytes when a connection is closed."""
LINE_END = b"\r\n"
VERSION = b"NATS/1.0"
STATUS, DESCRIPTION = "Status", "Description"


class UnreadableHeaders(dict[str, str]):
    """The headers of a message that cannot be read, as far as they can be."""

    def __init__(self, fault: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(headers or {})
        self.fault = fault


def fault_of(message: Msg) -> str | None:
    """Why a message cannot be read; None if it can be."""
    return message.headers.fault if isinstance(message.headers, UnreadableHeaders) else None


def parsed_headers(block: bytes) -> dict[str, str]:
    r"""The headers before a body; a header whose name is not valid is left out.

    >>> parsed_headers(b"NATS/1.0 404 No Messages\r\nce-id: 1\r\n\r\n")
    {'Status': '404', 'Description': 'No Messages', 'ce-id': '1'}

    Raises:
        ValueError: the block holds no headers.
    """
    first, *lines = block.removesuffix(LINE_END + LINE_END).split(LINE_END)
    if not first.startswith(VERSION):
        raise ValueError(f"they do not begin with {VERSION.decode()}")
    status, _, description = first[len(VERSION) :].strip().decode().partition(" ")
    headers = {STATUS: status} if status.isdigit() else {}
    if headers and description:
        headers[DESCRIPTION] = description.strip()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError("there is a line without a colon in them")
        key = name.strip().decode("ascii", "replace")
        if key.isascii() and not any(map(str.isspace, key)):
            headers[key] = value.strip().decode(errors="replace")
    return headers


class TolerantParser(Parser):
    """A parser that takes any bytes in a subject, as the server does."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._client = client

    async def parse(self, data: bytes = b"") -> None:
        """See `Parser`."""
        self.buf.extend(data)
        while self.buf:
            if self.state == AWAITING_MSG_PAYLOAD:
                if len(self.buf) < self.needed + len(LINE_END):
                    return
                await self._pass_message()
                continue
            line, is_whole, _ = self.buf.partition(LINE_END)
            if not is_whole:
                return
            del self.buf[: len(line) + len(LINE_END)]
            try:
                await self._process_line(bytes(line))
            except (ValueError, IndexError):
                raise nats.errors.ProtocolError from None

    async def _process_line(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        match verb.upper().strip():
            case b"MSG" | b"HMSG" as kind:
                self._expect_message(rest.split(b" "), has_headers=kind == b"HMSG")
            case b"PING":
                await self._client._process_ping()
            case b"PONG":
                await self._client._process_pong()
            case b"INFO":
                await self._client._process_info(json.loads(rest))
            case b"-ERR":
                await self._client._process_err(rest.decode(errors="replace").strip().lower())
            case b"+OK":
                pass
            case _:
                raise ValueError(verb)

    def _expect_message(self, words: list[bytes], *, has_headers: bool) -> None:
        """Parse a message's control line: subject, number, perhaps a reply subject, sizes."""
        sizes = 2 if has_headers else 1
        subject, sid, *reply = words[:-sizes]
        self.msg_arg = {"subject": subject, "sid": int(sid), "reply": reply[0] if reply else b""}
        self.needed = int(words[-1])
        self.header_needed = int(words[-2]) if has_headers else 0
        self.state = AWAITING_MSG_PAYLOAD

    async def _pass_message(self) -> None:
        """Take a whole message out of the buffer, and pass it to the client."""
        headers = bytes(self.buf[: self.header_needed])
        body = bytes(self.buf[self.header_needed : self.needed])
        del self.buf[: self.needed + len(LINE_END)]
        self.state = AWAITING_CONTROL_LINE
        message = self.msg_arg
        await self._client._process_msg(
            message["sid"], message["subject"], message["reply"], body, headers
        )


class CarefulClient(Client):
    """nats-py's client, with three faults mended.

    It closes without leaks, reads on after an unreadable message, and never sends a password over
    plain text when TLS was asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = TolerantParser(self)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        if not headers:
            return None
        try:
            return parsed_headers(headers) or None
        except ValueError as error:
            return UnreadableHeaders(f"its headers cannot be read: {error}")

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Any:
        escaped = subject.decode(errors="backslashreplace").encode()
        if escaped != subject and not isinstance(headers, UnreadableHeaders):
            headers = UnreadableHeaders("its subject is not UTF-8", headers)
        reply_to = reply.decode(errors="backslashreplace").encode()
        return super()._build_message(sid, escaped, reply_to, data, headers)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # nats-py may call this in a task of its own, where an error would be lost. A server that
        # hangs reads neither the last bytes nor the end of the connection.
        try:
            with suppress(OSError):
                async with asyncio.timeout(FLUSH_WITHIN):
                    await super()._close(status, do_cbs)
        finally:
            writer = getattr(self._transport, "_io_writer", None)
            if writer is not None:
                writer.transport.abort()
            if do_cbs and self._closed_cb is not None:  # nats-py may not have come to it.
                await self._closed_cb()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        is_tls = server is not None and server.uri.scheme == "tls"
        if initial_connection and is_tls and not info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        # From Python 3.12 on asyncio's `writelines` raises AttributeError on a lost connection.
        transport: Any = self._transport

        def write_all(lines: list[bytes]) -> None:
            transport.write(b"".join(lines))

        transport.writelines = write_all
        await super()._process_info(info, initial_connection)
