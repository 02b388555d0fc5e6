"""What an operator may decide about a plugin: how it is delivered to, how it is supervised.

Owns the policies as data, with their defaults, and how one layer of them overrides another.
Never knows the mechanisms that obey them, nor where the values were read from.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import attrs
from attrs.validators import ge, gt, in_, le, optional

Overflow = Literal["block", "drop_oldest", "drop_newest", "reject"]
OnFull = Literal["drop_oldest", "drop_newest", "reject"]

PARTITION_KEY = "partitionkey"
"""The `ordering_key` that is the envelope's key, by its name in CloudEvents."""
BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes of memory for the events from outside that one inbox holds."""
TRY_FOR = 5.0
"""Seconds for one attempt, where an event is tried again: the OpenTelemetry Collector's."""


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """How events reach one plugin. What is None is decided by the next in line.

    The operator (`[plugins.NAME.delivery]`) comes first, then the author (the class attribute
    `delivery`), then the event type, then the defaults of `DeliveryPolicy`. The defaults of what
    begins with `retry` are the OpenTelemetry Collector's.
    """

    durable: bool | None = None
    """Whether accepted events are kept on disk until they are handled; false by default."""
    buffer: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Events that may wait in the inbox; by default 1000 in memory, and on disk as many as
    `[store] max_bytes` has room for."""
    buffer_bytes: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Bytes of memory for the events from outside (by HTTP, or from a source) that wait in the
    inbox, back off or are in flight; by default 64 MiB. Each counts with an estimate that is made
    before it is decoded. An event that is above this alone is refused for good. What the program
    publishes itself does not count."""
    overflow: Overflow | None = attrs.field(
        default=None, validator=optional(in_(get_args(Overflow)))
    )
    """What a full inbox does with one more event; `"block"` by default."""
    block_for: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds for which `"block"` makes the publisher wait; 1 by default."""
    on_full: OnFull | None = attrs.field(default=None, validator=optional(in_(get_args(OnFull))))
    """What `"block"` does when its time is over; `"reject"` by default."""
    concurrency: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Handlers that run side by side; 1 by default, which keeps the order."""
    ordering_key: str | None = None
    """The field of the event whose values are each handled in order, one event after the other,
    while different values are handled side by side; or `"partitionkey"`, the envelope's key. Not
    given: with a `concurrency` of 1 the inbox is handled in order, otherwise nothing is. Where
    several batches are handled side by side, each has one event of a value."""
    delivery_limit: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Times that an event is handed to a `run()`, or a process, that crashes before the event is
    given up; 3 by default. RabbitMQ's quorum queues have a limit of the same name."""
    time_limit: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds that one attempt to handle an event may take, 0 for no limit; by default 5 where
    failed events are tried again, otherwise none. A plugin with a `run()` of its own sets its
    limits itself."""
    retry: bool | None = None
    """Whether an event whose handler failed is tried again; by default if the inbox is durable."""
    retry_initial: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds before the second attempt, at most (full jitter: the wait is drawn evenly between
    zero and that); 5 by default."""
    retry_multiplier: float | None = attrs.field(
        default=None, validator=optional([ge(1), le(1000)])
    )
    """By what that grows with each further attempt; 1.5 by default."""
    retry_max: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds that such a wait is never above; 30 by default."""
    retry_for: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds of attempts and waits after which an event is given up, 0 for never; 300 by default.
    The time in which its plugin is down does not count."""
    max_attempts: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Attempts after which an event is given up; no such limit by default."""
    deduplicate_for: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds for which an event that comes again, by the `source` and `id` that its publisher
    gave it, is not delivered again, 0 for never; 300 by default, as in Amazon's FIFO queues."""
    batch_size: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Events in one batch of a `BatchPlugin`, at most; 100 by default."""
    batch_age: float | None = attrs.field(default=None, validator=optional(gt(0)))
    """Seconds after its first event in which a batch closes; 1 by default."""
    batch_bytes: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """JSON bytes in one batch, at most; an event larger than that is a batch of its own. No such
    limit by default."""
    filter: dict[str, Any] | None = None
    """What to deliver only, by the path of a field: a value, or an array of values one of which
    it has to be. `"points.tags.route" = ["GET:/teapot"]` is of lists any element."""
    events: list[str] | None = None
    """Names of the event types to listen to, of those that the class listens to; all by default."""

    def over(self, other: DeliverySettings) -> DeliverySettings:
        """These settings where they decide, the other's where they do not.

        >>> author = DeliverySettings(buffer=10, concurrency=4)
        >>> DeliverySettings(buffer=50).over(author)
        ... # doctest: +ELLIPSIS
        DeliverySettings(..., buffer=50, ..., concurrency=4, ...)
        """
        return attrs.evolve(other, **self.decided())

    def decided(self) -> dict[str, Any]:
        """What is not left to others."""
        return {
            field.name: value
            for field in attrs.fields(DeliverySettings)
            if (value := getattr(self, field.name)) is not None
        }


@attrs.frozen(kw_only=True)
class DeliveryPolicy:
    """What was decided for one subscription; the defaults are here."""

    durable: bool = False
    buffer: int | None = None
    """None: whatever the store has room for."""
    buffer_bytes: int = BUFFER_BYTES
    overflow: Overflow = "block"
    block_for: float = 1.0
    on_full: OnFull = "reject"
    concurrency: int = 1
    ordering_key: str | None = None
    delivery_limit: int = 3
    time_limit: float = math.inf
    retry: bool = False
    retry_initial: float = 5.0
    retry_multiplier: float = 1.5
    retry_max: float = 30.0
    retry_for: float = 300.0
    max_attempts: int | None = None
    deduplicate_for: float = 300.0
    batch_size: int = 100
    batch_age: float = 1.0
    batch_bytes: int | None = None
    filter: dict[str, Any] | None = None

    @classmethod
    def decide(cls, *layers: DeliverySettings) -> DeliveryPolicy:
        """For each key, the first of the layers that has something to say about it.

        >>> operator, author = DeliverySettings(buffer=5), DeliverySettings(buffer=9, block_for=0)
        >>> policy = DeliveryPolicy.decide(operator, author)
        >>> policy.buffer, policy.block_for, policy.concurrency
        (5, 0, 1)
        >>> durable = DeliveryPolicy.decide(DeliverySettings(durable=True))
        >>> durable.retry, durable.time_limit
        (True, 5.0)
        """
        decided: dict[str, Any] = {}
        for layer in reversed(layers):
            decided |= layer.decided()
        chosen = {
            field.name: decided[field.name] for field in attrs.fields(cls) if field.name in decided
        }
        durable = chosen.get("durable", False)
        retry = chosen.setdefault("retry", durable)
        chosen["time_limit"] = chosen.get("time_limit", TRY_FOR if retry else 0) or math.inf
        if not durable:
            chosen.setdefault("buffer", 1000)
        return cls(**chosen)
