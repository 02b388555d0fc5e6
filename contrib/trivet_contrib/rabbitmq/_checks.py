"""The queues and exchanges that the settings ask for, and the guarantees that RabbitMQ lacks.

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

from .._brokers._client import BrokerRefusedError, BrokerUnavailableError
from ._connection import Connection

QUORUM: FieldTable = {"x-queue-type": "quorum"}
DIFFERENCE = re.compile(
    r"inequivalent arg '(?P<name>[\w-]+)'.* but current is (?:the value )?"
    r"(?:'(?P<text>[^']*)'(?: of type '(?P<type>\w+)')?|(?P<number>-?\d+)|none)"
)
"""RabbitMQ's words for a queue that differs from its declaration."""
TEXT_TYPES = ("longstr", "shortstr", "binary")
DECLARATIONS = 20
"""Declarations by which the arguments of a queue are found out one by one, at most."""


def _dead_letters_of(queue: Queue) -> str:
    return f"{queue.name}_dead"


@attrs.frozen(kw_only=True)
class Queue:
    """A queue, and what it is bound to."""

    name: str
    create: bool
    """Whether to make what is missing."""
    exchange: str = ""
    """The exchange to bind the queue to; none if it is empty."""
    routing_key: str = ""
    visibility: float = 30.0
    """Seconds after which a failed message is given back."""
    delivery_limit: int = 5
    prefetch: int = 256
    dead_letters: str = attrs.field(default=attrs.Factory(_dead_letters_of, takes_self=True))

    @property
    def arguments(self) -> FieldTable:
        """The arguments of a queue that is made here."""
        return {
            **QUORUM,
            "x-delivery-limit": self.delivery_limit,
            "x-overflow": "reject-publish",
            "x-dead-letter-strategy": "at-least-once",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead_letters,
        }


async def check_queue(connection: Connection, queue: Queue, *, consumes: bool) -> list[str]:
    """Make what is missing; returns the missing guarantees.

    Args:
        connection: the connection.
        queue: the queue that is to exist.
        consumes: whether the queue is consumed, and needs a queue for dead letters. A sink that
            sends to an existing queue needs none.

    Raises:
        BrokerRefusedError: something is missing, or is not as the settings say.
    """
    exists = await _exists(connection, queue.name, "queue")
    if not exists and not queue.create:
        raise BrokerRefusedError("queue", _missing(queue.name))
    if consumes or not exists:
        await _check_dead_letters(connection, queue, "dead_letters" if consumes else "queue")
    if not exists:
        await _make(connection, queue.name, "queue", queue.arguments)
    if queue.exchange:
        await check_exchange(connection, queue.exchange)
        await _bind(connection, queue)
    arguments = await _arguments_of(connection, queue)
    if consumes and arguments is not None:
        _refuse_round_trip(arguments, queue)
    return [*ALWAYS_MISSING, *_missing_guarantees(arguments, queue)]


async def _check_dead_letters(connection: Connection, queue: Queue, setting: str) -> None:
    if not await _exists(connection, queue.dead_letters, setting):
        if not queue.create:
            raise BrokerRefusedError(setting, _missing(queue.dead_letters))
        await _make(connection, queue.dead_letters, setting, QUORUM)


async def _exists(connection: Connection, name: str, setting: str) -> bool:
    channel = await connection.open_channel()
    try:
        with connection.translating_except(
            ChannelNotFoundEntity, ChannelAccessRefused, ChannelLockedResource
        ):
            await channel.queue_declare(name, passive=True, timeout=connection.timeout)
    except ChannelNotFoundEntity:
        return False
    except (ChannelAccessRefused, ChannelLockedResource) as error:
        raise BrokerRefusedError(setting, _words(error)) from None
    await connection.close_channel(channel)
    return True


def _missing(name: str) -> str:
    return f"the queue {name!r} is missing; `create = true` makes it"


async def _make(connection: Connection, name: str, setting: str, arguments: FieldTable) -> None:
    channel = await connection.open_channel()
    try:
        with connection.translating_except(ChannelAccessRefused, ChannelPreconditionFailed):
            await channel.queue_declare(
                name, durable=True, arguments=arguments, timeout=connection.timeout
            )
    except ChannelAccessRefused as error:
        raise BrokerRefusedError(
            setting, f"the queue {name!r} cannot be made: {_words(error)}"
        ) from None
    except ChannelPreconditionFailed:
        return  # Another program has made it meanwhile.
    await connection.close_channel(channel)


async def check_exchange(connection: Connection, name: str) -> None:
    """Check that an exchange exists.

    Raises:
        BrokerRefusedError: the exchange is missing.
    """
    channel = await connection.open_channel()
    try:
        with connection.translating_except(ChannelNotFoundEntity, ChannelAccessRefused):
            await channel.exchange_declare(name, passive=True, timeout=connection.timeout)
    except ChannelNotFoundEntity:
        raise BrokerRefusedError("exchange", f"the exchange {name!r} is missing") from None
    except ChannelAccessRefused as error:
        raise BrokerRefusedError("exchange", _words(error)) from None
    await connection.close_channel(channel)


async def _bind(connection: Connection, queue: Queue) -> None:
    channel = await connection.open_channel()
    try:
        with connection.translating_except(ChannelAccessRefused):
            await channel.queue_bind(
                queue.name, queue.exchange, queue.routing_key, timeout=connection.timeout
            )
    except ChannelAccessRefused as error:
        raise BrokerRefusedError("exchange", f"it cannot be bound to: {_words(error)}") from None
    await connection.close_channel(channel)


async def _arguments_of(connection: Connection, queue: Queue) -> FieldTable | None:
    """The arguments that the queue was made with; None if this user may not declare it.

    AMQP has no request for them. But RabbitMQ names the argument in which a declaration differs.
    """
    arguments = queue.arguments
    for _ in range(DECLARATIONS):
        channel = await connection.open_channel()
        try:
            with connection.translating_except(ChannelPreconditionFailed, ChannelAccessRefused):
                await channel.queue_declare(
                    queue.name, durable=True, arguments=arguments, timeout=connection.timeout
                )
        except ChannelAccessRefused:
            return None
        except ChannelPreconditionFailed as error:
            _learn(arguments, _words(error), queue.name)
        else:
            await connection.close_channel(channel)
            return arguments
    return None


def _learn(arguments: FieldTable, words: str, name: str) -> None:
    """Correct the argument in which, by RabbitMQ's words, the queue differs.

    Raises:
        BrokerRefusedError: the queue is no quorum queue.
    """
    found = DIFFERENCE.search(words)
    if found is None:
        raise BrokerUnavailableError(words)
    argument, text, number = found["name"], found["text"], found["number"]
    if argument in ("x-queue-type", "durable", "auto_delete", "exclusive"):
        kind = text or "classic"
        reason = f"{name!r} is a {kind} queue; a quorum queue is needed"
        raise BrokerRefusedError("queue", reason)
    if text is not None:
        kind = found["type"] or ""
        is_number = kind not in TEXT_TYPES if kind else isinstance(arguments.get(argument), int)
        arguments[argument] = int(text) if is_number else text
    elif number is not None:
        arguments[argument] = int(number)
    else:
        arguments.pop(argument, None)


def _refuse_round_trip(arguments: FieldTable, queue: Queue) -> None:
    """Raise `BrokerRefusedError` if messages that RabbitMQ gives up come back into the queue."""
    exchange = arguments.get("x-dead-letter-exchange")
    key = arguments.get("x-dead-letter-routing-key")  # Without it each message keeps its own key.
    is_straight = exchange == "" and key in (None, queue.name)
    is_around = bool(exchange) and exchange == queue.exchange and key in (None, queue.routing_key)
    if is_straight or is_around:
        reason = f"{queue.name!r} has an `x-dead-letter-exchange` that leads back to it"
        raise BrokerRefusedError("queue", reason)


ALWAYS_MISSING = (
    "whether RabbitMQ has more than one node cannot be asked: with one, its disk is all",
)
"""The guarantees of which no connection can tell whether RabbitMQ gives them."""


def _missing_guarantees(arguments: FieldTable | None, queue: Queue) -> list[str]:
    if arguments is None:
        return ["the queue's arguments are unknown: this user may not declare it"]
    missing: list[str] = []
    unless = "unless a policy changes it,"
    exchange = arguments.get("x-dead-letter-exchange")
    if exchange is None:
        missing.append(
            f"without `x-dead-letter-exchange`, {unless} messages that RabbitMQ gives up are"
            " dropped"
        )
    elif arguments.get("x-dead-letter-strategy") != "at-least-once":
        missing.append(
            f"without `x-dead-letter-strategy at-least-once`, {unless} messages that RabbitMQ gives"
            " up may be lost on their way"
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
        age = arguments["x-message-ttl"]
        missing.append(f"with `x-message-ttl {age!r}` older messages are dropped")
    return missing


def _words(error: BaseException) -> str:
    return ", ".join(map(str, error.args))
