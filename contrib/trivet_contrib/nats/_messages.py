"""Messages of NATS, and the messages of a connector.

Owns the names of headers, and the percent-encoding of CloudEvents' attributes.
Never knows how messages travel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from nats.aio.msg import Msg

from .._brokers._client import Message, Received
from ._library import fault_of

PREFIX = "ce-"
CONTENT_TYPE, DATA_CONTENT_TYPE = "content-type", "ce-datacontenttype"
MESSAGE_ID, EXPECTED_STREAM = "Nats-Msg-Id", "Nats-Expected-Stream"
FRAME_SIZE = len("NATS/1.0\r\n\r\n")
_SAFE = "".join(chr(each) for each in range(0x21, 0x7F) if chr(each) not in '"%')
_IS_SAFE = re.compile(f"[{re.escape(_SAFE)}]*").fullmatch
_IS_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
"""Whether nats-py sends a header of this name; it reads headers of other names as well."""
_SERVERS_PREFIX = "nats-"
FACTS = ("dead-reason", "dead-stream", "dead-subject", "dead-id", "dead-deliveries", MESSAGE_ID)
LARGEST_HEADERS = 64_000
"""Bytes; no stream takes more than 65 535."""

Headers = dict[str, str]


def encoded(headers: Mapping[str, str]) -> Headers:
    """Headers as they are sent: the value of an attribute is in printable ASCII."""
    sent: Headers = {}
    for name, value in headers.items():
        sent[name] = in_ascii(value) if name.startswith(PREFIX) else value
    if f"{PREFIX}specversion" in sent:
        sent[DATA_CONTENT_TYPE] = sent[CONTENT_TYPE]
    return sent


def in_ascii(value: str) -> str:
    """A text with spaces, and characters that a header cannot hold, percent-encoded."""
    return value if _IS_SAFE(value) else quote(value, safe=_SAFE)


def decoded(headers: Mapping[str, str]) -> Headers:
    """Headers with their attributes decoded, and with names in lower case."""
    result: Headers = {}
    for given, value in headers.items():
        name = given.lower()
        result[name] = unquote(value) if "%" in value and name.startswith(PREFIX) else value
    data_content_type = result.pop(DATA_CONTENT_TYPE, None)
    if data_content_type is not None:
        result.setdefault(CONTENT_TYPE, data_content_type)
    return result


def received(message: Msg, stream: str, consumer: str) -> Received | None:
    """A message of the consumer; None for a message that comes from somebody else.

    The tag is the message's sequence in the stream and its time: a stream that was deleted and made
    again begins with the same sequences.
    """
    tokens = message.reply.split(".")  # $JS.ACK, from 2.9 on with domain and account, then these.
    at = 2 if len(tokens) < 11 else 4
    numbers = tokens[at + 2 : at + 7]
    is_ours = tokens[:2] == ["$JS", "ACK"] and tokens[at : at + 2] == [stream, consumer]
    if not is_ours or len(numbers) < 5 or not all(map(str.isdecimal, numbers)):
        return None
    deliveries, sequence, _, time, _ = numbers
    return Received(
        message.data,
        decoded(message.headers) if message.headers else {},
        tag=f"{sequence}-{time}",
        deliveries=int(deliveries),
        fault=fault_of(message),
        raw=message,
    )


def size_of(message: Message) -> int:
    """Bytes of a message as NATS counts them: with the headers."""
    lines = sum(len(name) + len(value.encode()) + 4 for name, value in message.headers.items())
    return len(message.body) + lines + FRAME_SIZE


def as_dead_letter(message: Received, reason: str, stream: str, largest: int) -> Message:
    """The dead letter of a message: the message as it came, and why it died.

    Without room for both, the dead letter has the reason alone.

    Args:
        message: the message.
        reason: why it died.
        stream: the stream that it was in.
        largest: bytes that the server takes.
    """
    assert isinstance(message.raw, Msg)
    given: Mapping[str, str] = message.raw.headers or {}
    original = {
        name: value
        for name, value in given.items()
        if _IS_NAME(name) and not name.lower().startswith(_SERVERS_PREFIX)
    }
    facts = {
        "dead-reason": " ".join(reason.encode("ascii", "backslashreplace").decode().split()),
        "dead-stream": stream,
        "dead-subject": message.raw.subject,
        "dead-id": message.tag,
        "dead-deliveries": str(message.deliveries),
        MESSAGE_ID: f"{stream}/{message.tag}",
    }
    if unsendable := [name for name in given if not _IS_NAME(name)]:
        facts["dead-left-out"] = in_ascii(" ".join(unsendable))
    letter = Message(message.body, {**original, **facts})
    if size_of(letter) <= largest and size_of(letter) - len(message.body) <= LARGEST_HEADERS:
        return letter
    return facts_only(letter)


def facts_only(letter: Message) -> Message:
    """A dead letter without the message: why it died, where, and how large it was."""
    facts = {name: each for name, each in letter.headers.items() if name in FACTS}
    return Message(b"", {**facts, "dead-size": str(len(letter.body))})
