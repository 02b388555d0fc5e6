"""The streams and the consumer that the settings ask for, and the guarantees that NATS lacks.

Owns the names of the settings that are wrong.
Never knows messages.
"""

# pyright: reportUnknownMemberType=false
# nats-py has keywords without types.

from __future__ import annotations

from itertools import zip_longest

import attrs
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError

from .._brokers._client import BrokerRefusedError

PROGRAMS = 16
"""Programs whose `prefetch` fits into the `max_ack_pending` of a consumer that is made here."""


@attrs.frozen(kw_only=True)
class DurableConsumer:
    """A durable consumer, and its streams."""

    stream: str
    consumer: str
    subject: str
    """The subjects of the stream that are consumed; all of them if it is empty."""
    create: bool
    """Whether to make what is missing."""
    start: DeliverPolicy
    """The beginning of a consumer that is made here."""
    visibility: float
    """Seconds after which other programs may have an unacknowledged message."""
    delivery_limit: int
    prefetch: int
    dead_letters: str
    """The stream of the dead letters, and its subject."""
    max_dead_letters: int


async def check_stream(
    js: JetStreamContext, stream: str, subject: str, *, create: bool
) -> StreamConfig:
    """The configuration of a stream.

    Args:
        js: the connection.
        stream: the name of the stream.
        subject: the subject of a stream that is made here.
        create: whether to make a stream that is missing.

    Raises:
        BrokerRefusedError: the stream is missing.
    """
    try:
        return (await js.stream_info(stream)).config
    except NotFoundError:
        if not create:
            reason = f"there is no stream {stream!r}; `create = true` makes it"
            raise BrokerRefusedError("stream", reason) from None
    return await _make(js, StreamConfig(name=stream, subjects=[subject]), "stream")


async def _make(js: JetStreamContext, config: StreamConfig, setting: str) -> StreamConfig:
    try:
        return (await js.add_stream(config)).config
    except APIError as error:
        raise BrokerRefusedError(
            setting, f"{config.name!r} cannot be made: {error.description}"
        ) from None


async def check_dead_letters(js: JetStreamContext, durable: DurableConsumer) -> StreamConfig:
    """The configuration of the dead letters' stream; a missing stream is made.

    Raises:
        BrokerRefusedError: the stream is missing, or listens to something else.
    """
    name = durable.dead_letters
    try:
        config = (await js.stream_info(name)).config
    except NotFoundError:
        if not durable.create:
            reason = f"there is no stream {name!r}; `create = true` makes it"
            raise BrokerRefusedError("dead_letters", reason) from None
        limit = durable.max_dead_letters
        config = await _make(
            js, StreamConfig(name=name, subjects=[name], max_msgs=limit), "dead_letters"
        )
    if not listens(config, name):
        raise BrokerRefusedError("dead_letters", f"the stream {name!r} does not listen to {name!r}")
    return config


def _feeds(one: StreamConfig, other: StreamConfig) -> bool:
    """Whether messages of one stream come into another."""
    copied = [*(other.sources or []), *([other.mirror] if other.mirror else [])]
    if any(each.name == one.name for each in copied):
        return True
    target = one.republish.dest if one.republish else None
    return target is not None and any(_overlap(target, each) for each in other.subjects or [])


def _overlap(one: str, other: str) -> bool:
    """Whether some subject matches both patterns."""
    for mine, others in zip_longest(one.split("."), other.split(".")):
        if ">" in (mine, others):
            return True
        if mine != others and "*" not in (mine, others) and not _is_filled_in(mine):
            return False
        if None in (mine, others):
            return False
    return True


def _is_filled_in(token: str | None) -> bool:
    """Whether a token stands for a part of another subject, such as `{{wildcard(1)}}` or `$1`."""
    return token is not None and token.startswith(("{{", "$"))


def listens(config: StreamConfig, subject: str) -> bool:
    """Whether a stream takes messages that are published to a subject."""
    return any(_covers(pattern, subject) for pattern in config.subjects or [])


def _covers(pattern: str, subject: str) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        given, wanted = given[: len(wanted) - 1], wanted[:-1]
        if len(subject.split(".")) <= len(wanted):
            return False
    return len(wanted) == len(given) and all(
        want in ("*", each) for want, each in zip(wanted, given, strict=True)
    )


async def check_consumer(js: JetStreamContext, durable: DurableConsumer) -> list[str]:
    """Make what is missing; returns the missing guarantees.

    Raises:
        BrokerRefusedError: something is missing, or is not as the settings say.
    """
    stream = await check_stream(
        js, durable.stream, durable.subject or durable.stream, create=durable.create
    )
    dead_letters = await check_dead_letters(js, durable)
    if _feeds(dead_letters, stream):
        reason = f"the messages of {dead_letters.name!r} come into {stream.name!r} again"
        raise BrokerRefusedError("dead_letters", reason)
    try:
        config = (await js.consumer_info(durable.stream, durable.consumer)).config
    except NotFoundError:
        config = await _make_consumer(js, durable)
    _check_consumer(config, durable)
    return [*missing_guarantees(stream), *_missing_guarantees_of(config, durable)]


async def _make_consumer(js: JetStreamContext, durable: DurableConsumer) -> ConsumerConfig:
    if not durable.create:
        reason = f"there is no consumer {durable.consumer!r}; `create = true` makes it"
        raise BrokerRefusedError("consumer", reason)
    config = ConsumerConfig(
        durable_name=durable.consumer,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=durable.visibility,
        deliver_policy=durable.start,
        filter_subject=durable.subject or None,
        max_deliver=-1,
        max_ack_pending=max(1000, PROGRAMS * durable.prefetch),
    )
    try:
        return (await js.add_consumer(durable.stream, config)).config
    except APIError as error:
        setting = "subject" if "filter" in (error.description or "") else "consumer"
        raise BrokerRefusedError(setting, f"it cannot be made: {error.description}") from None


def _check_consumer(config: ConsumerConfig, durable: DurableConsumer) -> None:
    """Raise `BrokerRefusedError` if a consumer differs from the settings, or is of another kind."""
    name = f"the consumer {durable.consumer!r}"
    if config.deliver_subject:
        raise BrokerRefusedError(
            "consumer", f"{name} is a push consumer; a pull consumer is needed"
        )
    if config.ack_policy != AckPolicy.EXPLICIT:
        reason = f"{name} has the ack_policy {config.ack_policy!s}; `explicit` is needed"
        raise BrokerRefusedError("consumer", reason)
    if config.headers_only:
        raise BrokerRefusedError("consumer", f"{name} has headers_only: bodies are needed")
    if (config.filter_subject or "") != durable.subject or config.filter_subjects:
        subjects = config.filter_subjects or [config.filter_subject or "none"]
        raise BrokerRefusedError("subject", f"{name} has another filter: {', '.join(subjects)}")
    if abs((config.ack_wait or 0) - durable.visibility) > 1e-6:
        raise BrokerRefusedError("visibility", f"{name} has an ack_wait of {config.ack_wait:g} s")
    if 0 < (config.max_deliver or -1) <= durable.delivery_limit:
        reason = (
            f"{name} has a max_deliver of {config.max_deliver}: NATS would drop a message in"
            " silence before it is a dead letter; let it be -1, or greater"
        )
        raise BrokerRefusedError("delivery_limit", reason)


def _missing_guarantees_of(config: ConsumerConfig, durable: DurableConsumer) -> list[str]:
    missing: list[str] = []
    if (config.max_deliver or -1) > 0:
        missing.append(
            f"with `max_deliver {config.max_deliver}` NATS drops in silence a message that was"
            " delivered so often, a stop or a lost connection included"
        )
    if 0 < (config.max_ack_pending or -1) < durable.prefetch:
        missing.append(
            f"with `max_ack_pending {config.max_ack_pending}` all programs together have no more"
            " messages in flight than that"
        )
    if config.mem_storage:
        missing.append(
            "with `mem_storage` a restart of NATS forgets which messages were acknowledged"
        )
    return missing


def missing_guarantees(config: StreamConfig) -> list[str]:
    """The ways in which a stream, as it is set up, may lose something."""
    missing: list[str] = []
    if config.storage == StorageType.MEMORY:
        missing.append("with `storage memory` a restart of NATS costs everything")
    else:
        missing.append(
            "whether NATS has `sync_interval: always` cannot be asked: by default a power cut"
            " costs up to two minutes"
        )
    if (config.num_replicas or 1) == 1:
        missing.append("with `num_replicas 1` the loss of a disk costs everything")
    if config.discard == DiscardPolicy.OLD:
        missing += [
            f"with `{name} {value}` and `discard old` the oldest are dropped, read or not"
            for name in ("max_msgs", "max_bytes", "max_msgs_per_subject")
            if (value := getattr(config, name) or -1) > 0
        ]
    if config.max_age:
        missing.append(
            f"with `max_age {config.max_age:g} s` older messages are dropped, read or not"
        )
    if config.retention == RetentionPolicy.INTEREST:
        missing.append(
            "with `retention interest` messages that come while no consumer exists are dropped"
        )
    return missing
