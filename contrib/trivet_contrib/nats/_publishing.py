"""Messages put into a stream, many at once, each acknowledged.

Owns what is an acknowledgement, and what a refusal by the stream means.
Never knows whose messages they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nats.aio.msg import Msg

from .._brokers._client import AwayError, Message, RefusedError, UnsendableError
from ._connection import NO_RESPONDERS, Line, status_of

OTHER_STREAM = 10060
TOO_LARGE = (10054, 10097)
"""For the stream, or with its headers for any stream."""


class _Fault(msgspec.Struct):
    code: int
    err_code: int
    description: str = ""


class _Answer(msgspec.Struct):
    """JetStream's to a message; of a message that is there already it says the same."""

    stream: str = ""
    seq: int = 0
    error: _Fault | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class _Hearing:
    """The answers to what was published.

    Args:
        stream: the one that is to have it.
        subject: where it was published.
        setting: the one that names that.
        taken: gets the number of each that the stream has.
    """

    def __init__(self, stream: str, subject: str, setting: str, taken: set[int]) -> None:
        self.faults: list[AwayError] = []
        self.reasons: dict[int, str] = {}
        self._stream = stream
        self._subject = subject
        self._setting = setting
        self._taken = taken

    def hear(self, index: int, answer: Msg) -> bool:
        """Heed an answer; says whether it is one. Anybody may listen to a subject, and answer."""
        if status_of(answer) == NO_RESPONDERS:
            reason = f"no stream listens to {self._subject!r} (no responders)"
            self.faults.append(RefusedError(self._setting, reason))
            return True
        try:
            said = _decode(answer.data)
        except msgspec.DecodeError:
            return False
        if said.error is not None:
            self._note(index, said.error)
        elif said.stream == self._stream and said.seq > 0:
            self._taken.add(index)
        else:
            return False
        return True

    def _note(self, index: int, fault: _Fault) -> None:
        if fault.err_code in TOO_LARGE:
            self.reasons[index] = f"the stream does not take it: {fault.description}"
        elif fault.err_code == OTHER_STREAM:
            reason = f"another stream listens to {self._subject!r}"
            self.faults.append(RefusedError(self._setting, reason))
        else:
            self.faults.append(AwayError(f"the stream refuses: {fault.description}"))


async def publish(
    line: Line,
    stream: str,
    subject: str,
    messages: Sequence[Message],
    taken: set[int],
    *,
    setting: str,
) -> None:
    """Publish messages, in order, and wait until a stream has all of them.

    Args:
        line: the connection.
        stream: the one that is to have them.
        subject: where.
        messages: with the headers that are sent.
        taken: gets the place of each that the stream has.
        setting: the one that names the subject.

    Raises:
        AwayError: it has not all of them.
        UnsendableError: it will not take some of them.
    """
    hearing = _Hearing(stream, subject, setting, taken)
    requests = [(subject, each.body, dict(each.headers)) for each in messages]
    await line.ask(requests, hearing.hear)
    if hearing.reasons:
        raise UnsendableError(hearing.reasons)
    if hearing.faults:
        raise hearing.faults[0]
