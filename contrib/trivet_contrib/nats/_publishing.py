"""Messages put into a stream, many at once, each acknowledged.

Owns what a refusal by the stream means.
Never knows whose messages they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from nats.aio.msg import Msg

from .._broker import AwayError, Message, RefusedError
from ._connection import NO_RESPONDERS, Line, status_of

OTHER_STREAM = 10060


class _Fault(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class _Answer(msgspec.Struct):
    error: _Fault | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def _nothing(_: int) -> None:
    pass


async def publish(
    line: Line,
    subject: str,
    messages: Sequence[Message],
    confirm: Callable[[int], None] = _nothing,
    *,
    setting: str = "dead_letters",
) -> None:
    """Publish messages, in order, and wait until a stream has all of them.

    Args:
        line: the connection.
        subject: where.
        messages: with the headers that are sent.
        confirm: called with the number of each that the stream has.
        setting: the one that names the subject.

    Raises:
        AwayError: it has not all of them.
    """
    faults: list[AwayError] = []

    def hear(index: int, answer: Msg) -> None:
        """What the stream says of one."""
        fault = _fault(answer, subject, setting)
        if fault is None:
            confirm(index)
        else:
            faults.append(fault)

    await line.ask([(subject, each.body, dict(each.headers)) for each in messages], hear)
    if faults:
        raise faults[0]


def _fault(answer: Msg, subject: str, setting: str) -> AwayError | None:
    if status_of(answer) == NO_RESPONDERS:
        return RefusedError(setting, f"no stream listens to {subject!r} (no responders)")
    error = _decode(answer.data).error
    if error is None:
        return None
    if error.err_code == OTHER_STREAM:
        return RefusedError(setting, f"another stream listens to {subject!r}")
    return AwayError(f"the stream refuses: {error.description}")
