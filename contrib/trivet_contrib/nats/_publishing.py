"""Messages published to a stream, many at once, each acknowledged by the stream.

Owns the recognition of an acknowledgement, and the meaning of a refusal.
Never knows whose messages they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nats.aio.msg import Msg

from .._brokers._client import (
    BrokerRefusedError,
    BrokerUnavailableError,
    Message,
    UnsendableMessagesError,
)
from ._connection import status_of
from ._requests import NO_RESPONDERS, Requests

OTHER_STREAM = 10060
TOO_LARGE = (10054, 10097)
"""Error codes for a message that is too large for the stream, or whose headers no stream takes."""


class _Error(msgspec.Struct):
    code: int
    err_code: int
    description: str = ""


class _PubAck(msgspec.Struct):
    """JetStream's answer to a message; for a duplicate it is the same."""

    stream: str = ""
    seq: int = 0
    error: _Error | None = None


_decode = msgspec.json.Decoder(_PubAck).decode


class _PubAcks:
    """The answers to published messages.

    Args:
        stream: the stream that is to have the messages.
        subject: the subject that they are published to.
        setting: the setting that names the subject.
        taken: receives the index of each message that the stream has.
    """

    def __init__(self, stream: str, subject: str, setting: str, taken: set[int]) -> None:
        self.errors: list[BrokerUnavailableError] = []
        self.unsendable: dict[int, str] = {}
        self._stream = stream
        self._subject = subject
        self._setting = setting
        self._taken = taken

    def on_answer(self, index: int, answer: Msg) -> bool:
        """Note an answer; returns whether the message is one.

        Any program may listen to the subject, and answer.
        """
        if status_of(answer) == NO_RESPONDERS:
            reason = f"no stream listens to {self._subject!r} (no responders)"
            self.errors.append(BrokerRefusedError(self._setting, reason))
            return True
        try:
            ack = _decode(answer.data)
        except msgspec.DecodeError:
            return False
        if ack.error is not None:
            self._on_error(index, ack.error)
        elif ack.stream == self._stream and ack.seq > 0:
            self._taken.add(index)
        else:
            return False
        return True

    def _on_error(self, index: int, error: _Error) -> None:
        if error.err_code in TOO_LARGE:
            self.unsendable[index] = f"the stream does not take it: {error.description}"
        elif error.err_code == OTHER_STREAM:
            reason = f"another stream listens to {self._subject!r}"
            self.errors.append(BrokerRefusedError(self._setting, reason))
        else:
            self.errors.append(BrokerUnavailableError(f"the stream refuses: {error.description}"))


async def publish(
    requests: Requests,
    stream: str,
    subject: str,
    messages: Sequence[Message],
    taken: set[int],
    *,
    setting: str,
) -> None:
    """Publish messages in order, and wait until a stream has all of them.

    Args:
        requests: the requests of the connection.
        stream: the stream that is to have the messages.
        subject: the subject to publish to.
        messages: the messages, with their headers as NATS has them.
        taken: receives the index of each message that the stream has.
        setting: the setting that names the subject.

    Raises:
        BrokerUnavailableError: the stream does not have all messages.
        UnsendableMessagesError: the stream will never take some of them.
    """
    acks = _PubAcks(stream, subject, setting, taken)
    sent = [(subject, each.body, dict(each.headers)) for each in messages]
    await requests.request(sent, acks.on_answer)
    if acks.unsendable:
        raise UnsendableMessagesError(acks.unsendable)
    if acks.errors:
        raise acks.errors[0]
