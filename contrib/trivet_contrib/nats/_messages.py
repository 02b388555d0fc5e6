"""Messages of NATS and those of a connector.

Owns which headers are whose, and CloudEvents' attributes in them, percent-encoded.
Never knows how they travel.
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
FRAME = len("NATS/1.0\r\n\r\n")
_SAFE = "".join(chr(each) for each in range(0x21, 0x7F) if chr(each) not in '"%')
_IS_SAFE = re.compile(f"[{re.escape(_SAFE)}]*").fullmatch
_IS_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
"""Whether nats-py sends a header of this name; what it reads may have others."""
_OF_THE_SERVER = "nats-"
FACTS = ("dead-reason", "dead-stream", "dead-subject", "dead-id", "dead-deliveries", MESSAGE_ID)
LARGEST_HEADERS = 64_000
"""Bytes; more than 65 535 no stream takes."""

Headers = dict[str, str]


def encoded(headers: Mapping[str, str]) -> Headers:
    """As they are sent: an attribute's value in printable ASCII."""
    sent: Headers = {}
    for name, value in headers.items():
        sent[name] = in_ascii(value) if name.startswith(PREFIX) else value
    if f"{PREFIX}specversion" in sent:
        sent[DATA_CONTENT_TYPE] = sent[CONTENT_TYPE]
    return sent


def in_ascii(value: str) -> str:
    """Without what a header cannot hold, nor a space: percent-encoded."""
    return value if _IS_SAFE(value) else quote(value, safe=_SAFE)


def decoded(headers: Mapping[str, str]) -> Headers:
    """As they are meant, with names in small letters."""
    meant: Headers = {}
    for given, value in headers.items():
        name = given.lower()
        meant[name] = unquote(value) if "%" in value and name.startswith(PREFIX) else value
    data_content_type = meant.pop(DATA_CONTENT_TYPE, None)
    if data_content_type is not None:
        meant.setdefault(CONTENT_TYPE, data_content_type)
    return meant


def received(message: Msg, stream: str, consumer: str) -> Received | None:
    """A message of a consumer's; None for one that is not.

    Its tag is its sequence in the stream, and its time, for a stream that was made anew.
    """
    tokens = message.reply.split(".")  # $JS.ACK, domain and account since 2.9 or none of them, …
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
    """Bytes, as NATS counts them: with the headers."""
    lines = sum(len(name) + len(value.encode()) + 4 for name, value in message.headers.items())
    return len(message.body) + lines + FRAME


def dead_letter(message: Received, reason: str, stream: str, largest: int) -> Message:
    """A message as it came, and why it is dead; the reason alone, where there is no room for both.

    Args:
        message: the message.
        reason: why it is dead.
        stream: where it was.
        largest: bytes that the server takes.
    """
    assert isinstance(message.raw, Msg)
    given: Mapping[str, str] = message.raw.headers or {}
    original = {
        name: value
        for name, value in given.items()
        if _IS_NAME(name) and not name.lower().startswith(_OF_THE_SERVER)
    }
    facts = {
        "dead-reason": " ".join(reason.encode("ascii", "backslashreplace").decode().split()),
        "dead-stream": stream,
        "dead-subject": message.raw.subject,
        "dead-id": message.tag,
        "dead-deliveries": str(message.deliveries),
        MESSAGE_ID: f"{stream}/{message.tag}",
    }
    if unsayable := [name for name in given if not _IS_NAME(name)]:
        facts["dead-left-out"] = in_ascii(" ".join(unsayable))
    letter = Message(message.body, {**original, **facts})
    if size_of(letter) <= largest and size_of(letter) - len(message.body) <= LARGEST_HEADERS:
        return letter
    return bare(letter)


def bare(letter: Message) -> Message:
    """A dead letter without what the message was: why, where and how large."""
    facts = {name: each for name, each in letter.headers.items() if name in FACTS}
    return Message(b"", {**facts, "dead-size": str(len(letter.body))})
