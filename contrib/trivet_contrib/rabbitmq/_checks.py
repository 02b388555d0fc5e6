"""What must be there, what is made where it is missing, and what RabbitMQ does not promise.

Owns the names of the settings that are wrong.
Never knows messages.
"""

from __future__ import annotations

import re

import attrs
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.common import FieldTable

from .._brokers._client import AwayError, RefusedError
from ._connection import Line

QUORUM: FieldTable = {"x-queue-type": "quorum"}
DIFFERENT = re.compile(
    r"inequivalent arg '(?P<name>[\w-]+)'.* but current is (?:the value )?"
    r"(?:'(?P<text>[^']*)'(?: of type '(?P<type>\w+)')?|(?P<number>-?\d+)|none)"
)
"""How RabbitMQ says of a queue that it is otherwise than declared."""
TEXT = ("longstr", "shortstr", "binary")
ASKED = 20
"""Arguments, at most, that are found out one by one."""


def _beside(queue: Queue) -> str:
    return f"{queue.name}_dead"


@attrs.frozen(kw_only=True)
class Queue:
    """What is consumed."""

    name: str
    create: bool
    """Whether to make what is missing."""
    exchange: str = ""
    """What it is to be bound to; nothing, where it is empty."""
    routing_key: str = ""
    visibility: float = 30.0
    """Seconds after which what has failed is given back."""
    delivery_limit: int = 5
    prefetch: int = 256
    dead_letters: str = attrs.field(default=attrs.Factory(_beside, takes_self=True))

    @property
    def arguments(self) -> FieldTable:
        """Of a queue that is made here."""
        return {
            **QUORUM,
            "x-delivery-limit": self.delivery_limit,
            "x-overflow": "reject-publish",
            "x-dead-letter-strategy": "at-least-once",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead_letters,
        }


async def look_at_queue(line: Line, queue: Queue, *, consumes: bool) -> list[str]:
    """Make what is missing, and say what is not promised.

    Args:
        line: where.
        queue: what is to be there.
        consumes: whether dead letters are put beside it; who only sends to a queue that is there
            has no need of them.

    Raises:
        RefusedError: something is missing, or is not as the settings say.
    """
    is_there = await _is_there(line, queue.name, "queue")
    if not is_there and not queue.create:
        raise RefusedError("queue", _missing(queue.name))
    if consumes or not is_there:
        await _look_at_dead_letters(line, queue, "dead_letters" if consumes else "queue")
    if not is_there:
        await _make(line, queue.name, "queue", queue.arguments)
    if queue.exchange:
        await look_at_exchange(line, queue.exchange)
        await _bind(line, queue)
    arguments = await _arguments_of(line, queue)
    if consumes and arguments is not None:
        _refuse_round_trip(arguments, queue)
    return [*ALWAYS, *_may_lose(arguments, queue)]


async def _look_at_dead_letters(line: Line, queue: Queue, setting: str) -> None:
    if not await _is_there(line, queue.dead_letters, setting):
        if not queue.create:
            raise RefusedError(setting, _missing(queue.dead_letters))
        await _make(line, queue.dead_letters, setting, QUORUM)


async def _is_there(line: Line, name: str, setting: str) -> bool:
    channel = await line.channel()
    try:
        with line.translated_but(
            ChannelNotFoundEntity, ChannelAccessRefused, ChannelLockedResource
        ):
            await channel.queue_declare(name, passive=True, timeout=line.timeout)
    except ChannelNotFoundEntity:
        return False
    except (ChannelAccessRefused, ChannelLockedResource) as error:
        raise RefusedError(setting, _said(error)) from None
    await line.leave(channel)
    return True


def _missing(name: str) -> str:
    return f"the queue {name!r} is missing; `create = true` makes it"


async def _make(line: Line, name: str, setting: str, arguments: FieldTable) -> None:
    channel = await line.channel()
    try:
        with line.translated_but(ChannelAccessRefused, ChannelPreconditionFailed):
            await channel.queue_declare(
                name, durable=True, arguments=arguments, timeout=line.timeout
            )
    except ChannelAccessRefused as error:
        raise RefusedError(setting, f"the queue {name!r} cannot be made: {_said(error)}") from None
    except ChannelPreconditionFailed:
        return  # Another program was quicker.
    await line.leave(channel)


async def look_at_exchange(line: Line, name: str) -> None:
    """See that an exchange is there.

    Raises:
        RefusedError: it is missing.
    """
    channel = await line.channel()
    try:
        with line.translated_but(ChannelNotFoundEntity, ChannelAccessRefused):
            await channel.exchange_declare(name, passive=True, timeout=line.timeout)
    except ChannelNotFoundEntity:
        raise RefusedError("exchange", f"the exchange {name!r} is missing") from None
    except ChannelAccessRefused as error:
        raise RefusedError("exchange", _said(error)) from None
    await line.leave(channel)


async def _bind(line: Line, queue: Queue) -> None:
    channel = await line.channel()
    try:
        with line.translated_but(ChannelAccessRefused):
            await channel.queue_bind(
                queue.name, queue.exchange, queue.routing_key, timeout=line.timeout
            )
    except ChannelAccessRefused as error:
        raise RefusedError("exchange", f"it cannot be bound to: {_said(error)}") from None
    await line.leave(channel)


async def _arguments_of(line: Line, queue: Queue) -> FieldTable | None:
    """With which the queue was made; None where this user may not ask.

    AMQP has no question for them, but says of a declaration in which argument it differs.
    """
    arguments = queue.arguments
    for _ in range(ASKED):
        channel = await line.channel()
        try:
            with line.translated_but(ChannelPreconditionFailed, ChannelAccessRefused):
                await channel.queue_declare(
                    queue.name, durable=True, arguments=arguments, timeout=line.timeout
                )
        except ChannelAccessRefused:
            return None
        except ChannelPreconditionFailed as error:
            _learn(arguments, _said(error), queue.name)
        else:
            await line.leave(channel)
            return arguments
    return None


def _learn(arguments: FieldTable, said: str, name: str) -> None:
    """Put in what RabbitMQ says that it is.

    Raises:
        RefusedError: it is no quorum queue.
    """
    found = DIFFERENT.search(said)
    if found is None:
        raise AwayError(said)
    argument, text, number = found["name"], found["text"], found["number"]
    if argument in ("x-queue-type", "durable", "auto_delete", "exclusive"):
        kind = text or "classic"
        reason = f"{name!r} is a {kind} queue; a quorum queue is needed"
        raise RefusedError("queue", reason)
    if text is not None:
        kind = found["type"] or ""
        is_number = kind not in TEXT if kind else isinstance(arguments.get(argument), int)
        arguments[argument] = int(text) if is_number else text
    elif number is not None:
        arguments[argument] = int(number)
    else:
        arguments.pop(argument, None)


def _refuse_round_trip(arguments: FieldTable, queue: Queue) -> None:
    """Raise `RefusedError` where what RabbitMQ itself gives up comes into the queue again."""
    exchange = arguments.get("x-dead-letter-exchange")
    key = arguments.get("x-dead-letter-routing-key")  # Without it each message has its own.
    is_straight = exchange == "" and key in (None, queue.name)
    is_around = bool(exchange) and exchange == queue.exchange and key in (None, queue.routing_key)
    if is_straight or is_around:
        reason = f"{queue.name!r} has an `x-dead-letter-exchange` that leads back to it"
        raise RefusedError("queue", reason)


ALWAYS = ("whether RabbitMQ has more than one node cannot be asked: with one, its disk is all",)


def _may_lose(arguments: FieldTable | None, queue: Queue) -> list[str]:
    if arguments is None:
        return ["how the queue was made may not be asked: it takes the permission to configure"]
    missing: list[str] = []
    unless = "unless a policy says so,"
    exchange = arguments.get("x-dead-letter-exchange")
    if exchange is None:
        missing.append(
            f"without `x-dead-letter-exchange`, {unless} what RabbitMQ itself gives up is dropped"
        )
    elif arguments.get("x-dead-letter-strategy") != "at-least-once":
        missing.append(
            f"without `x-dead-letter-strategy at-least-once`, {unless} what RabbitMQ itself gives"
            " up may be lost on its way"
        )
    if arguments.get("x-overflow") != "reject-publish":
        missing += [
            f"with `{name} {arguments[name]!r}` the oldest messages are dropped"
            for name in ("x-max-length", "x-max-length-bytes")
            if name in arguments
        ]
    limit = arguments.get("x-delivery-limit")
    if isinstance(limit, int) and 0 <= limit < queue.delivery_limit:
        missing.append(
            f"with `x-delivery-limit {limit}` RabbitMQ gives up before `delivery_limit`, without a"
            " reason"
        )
    if "x-message-ttl" in arguments:
        missing.append(f"with `x-message-ttl {arguments['x-message-ttl']!r}` what is older is gone")
    return missing


def _said(error: BaseException) -> str:
    return ", ".join(map(str, error.args))
