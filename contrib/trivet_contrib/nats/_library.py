"""nats-py's client where it has to be otherwise: what it reads, and how it ends.

Owns that a subject or headers that cannot be read cost no message but their own; by itself nats-py
stops reading, or leaves headers out in silence.
Never knows JetStream.
"""

# pyright: reportUnknownMemberType=false, reportPrivateUsage=false
# nats-py has keywords without types, and its parser calls what only its client has.

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import AWAITING_CONTROL_LINE, AWAITING_MSG_PAYLOAD, Parser

LEAVING = 0.5
"""Seconds for what is still to be sent when a connection is closed."""
LINE_END = b"\r\n"
VERSION = b"NATS/1.0"
STATUS, DESCRIPTION = "Status", "Description"


class Unreadable(dict[str, str]):
    """The headers of a message that cannot be read, as far as there are any."""

    def __init__(self, fault: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(headers or {})
        self.fault = fault


def fault_of(message: Msg) -> str | None:
    """Why a message cannot be read; None where it can be."""
    return message.headers.fault if isinstance(message.headers, Unreadable) else None


def headers_of(block: bytes) -> dict[str, str]:
    r"""The headers before a body; one without a name that a header can have is left out.

    >>> headers_of(b"NATS/1.0 404 No Messages\r\nce-id: 1\r\n\r\n")
    {'Status': '404', 'Description': 'No Messages', 'ce-id': '1'}

    Raises:
        ValueError: there are none in it.
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


class AnyBytesParser(Parser):
    """Takes a subject with any bytes in it that the server takes."""

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
                await self._hand_on()
                continue
            line, is_whole, _ = self.buf.partition(LINE_END)
            if not is_whole:
                return
            del self.buf[: len(line) + len(LINE_END)]
            try:
                await self._understand(bytes(line))
            except (ValueError, IndexError):
                raise nats.errors.ProtocolError from None

    async def _understand(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        match verb.upper().strip():
            case b"MSG" | b"HMSG" as kind:
                self._expect(rest.split(b" "), has_headers=kind == b"HMSG")
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

    def _expect(self, words: list[bytes], *, has_headers: bool) -> None:
        """Be ready for the body of a message: subject, number, perhaps where to answer, sizes."""
        sizes = 2 if has_headers else 1
        subject, sid, *reply = words[:-sizes]
        self.msg_arg = {"subject": subject, "sid": int(sid), "reply": reply[0] if reply else b""}
        self.needed = int(words[-1])
        self.header_needed = int(words[-2]) if has_headers else 0
        self.state = AWAITING_MSG_PAYLOAD

    async def _hand_on(self) -> None:
        """A message is there as a whole."""
        headers = bytes(self.buf[: self.header_needed])
        body = bytes(self.buf[self.header_needed : self.needed])
        del self.buf[: self.needed + len(LINE_END)]
        self.state = AWAITING_CONTROL_LINE
        message = self.msg_arg
        await self._client._process_msg(
            message["sid"], message["subject"], message["reply"], body, headers
        )


class CarefulClient(Client):
    """Leaves nothing behind, says no password in clear where it should not, and reads on."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = AnyBytesParser(self)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        if not headers:
            return None
        try:
            return headers_of(headers) or None
        except ValueError as error:
            return Unreadable(f"its headers cannot be read: {error}")

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Any:
        escaped = subject.decode(errors="backslashreplace").encode()
        if escaped != subject and not isinstance(headers, Unreadable):
            headers = Unreadable("its subject is not UTF-8", headers)
        answer_to = reply.decode(errors="backslashreplace").encode()
        return super()._build_message(sid, escaped, answer_to, data, headers)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # It may be called in a task of its own, whose failure would be nobody's; and a server that
        # stands still takes no leave, nor what is on its way.
        try:
            with suppress(OSError):
                async with asyncio.timeout(LEAVING):
                    await super()._close(status, do_cbs)
        finally:
            writer = getattr(self._transport, "_io_writer", None)
            if writer is not None:
                writer.transport.abort()
            if do_cbs and self._closed_cb is not None:  # Which may not have been got to.
                await self._closed_cb()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        is_tls = server is not None and server.uri.scheme == "tls"
        if initial_connection and is_tls and not info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        # asyncio's, from Python 3.12 on, raises AttributeError where the connection is lost.
        transport: Any = self._transport

        def write_all(lines: list[bytes]) -> None:
            transport.write(b"".join(lines))

        transport.writelines = write_all
        await super()._process_info(info, initial_connection)
