"""Delivery settings: the keys of the operator and the author, and the policy that they make.

Owns the keys, their defaults, and how one layer of settings overrides another.
Never knows the mechanisms that obey a policy, nor where its values were read from.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import attrs
from attrs.validators import ge, gt, in_, le, optional

Overflow = Literal["block", "drop_oldest", "drop_newest", "reject"]
OnFull = Literal["drop_oldest", "drop_newest", "reject"]

PARTITION_KEY = "partitionkey"
"""The `ordering_key` that means the envelope's key; the name is that of CloudEvents."""
BUFFER = 1000
"""Events in an inbox in memory, by default."""
BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes of memory for the events from outside that one inbox holds, by default."""
TRY_FOR = 5.0
"""Seconds for one attempt where events are tried again, by default: the OpenTelemetry
Collector's."""


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """Settings for the delivery of events to one plugin; None leaves a key to the next layer.

    The layers are the operator (`[plugins.NAME.delivery]`), then the author (the class attribute
    `delivery`), then the event type, then the defaults, which stand in `DeliveryPolicy`.

    >>> DeliveryPolicy.decide(DeliverySettings(batch_size=50)).batch_size
    50
    """

    durable: bool | None = None
    """Whether accepted events are kept on disk until they are handled."""
    buffer: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Events that may wait in the inbox. A durable inbox has no such limit by default, but that of
    `[store] max_bytes`."""
    buffer_bytes: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Bytes of memory for the events from outside (by HTTP, or from a source) that wait in the
    inbox, back off or are in flight. The size of an event is an estimate, made before it is
    decoded. An event larger than the whole limit is refused for good. Events that the program
    itself publishes do not count."""
    overflow: Overflow | None = attrs.field(
        default=None, validator=optional(in_(get_args(Overflow)))
    )
    """The action of a full inbox on one more event: make the publisher wait, drop the oldest or
    the newest event, or reject it."""
    block_for: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds for which `"block"` makes the publisher wait."""
    on_full: OnFull | None = attrs.field(default=None, validator=optional(in_(get_args(OnFull))))
    """The action of `"block"` when `block_for` is over."""
    concurrency: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Handlers that run side by side; one handler keeps the order of events."""
    ordering_key: str | None = None
    """A field of the event, or `"partitionkey"`, the envelope's key. Events of one value are
    handled in order, one after the other; different values are handled side by side. Without it,
    a `concurrency` of 1 keeps the order of the whole inbox, and a higher one keeps none. A
    batch has at most one event of a value if `concurrency` is above 1."""
    delivery_limit: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Crashes of `run()`, or of the process, with an event in flight, after which that event is
    given up. RabbitMQ's quorum queues have a limit of the same name."""
    time_limit: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds that one attempt to handle an event may take, 0 for no limit. The default is 5 s if
    `retry` is true, in memory too, and no limit otherwise. It does not hold for a plugin with a
    `run()` of its own."""
    retry: bool | None = None
    """Whether an event whose handler failed is tried again; by default it is if the inbox is
    durable. `time_limit` and the keys that begin with `retry_` have the defaults of the
    OpenTelemetry Collector."""
    retry_initial: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds before the second attempt, at most (full jitter: the wait is drawn evenly between
    zero and that)."""
    retry_multiplier: float | None = attrs.field(
        default=None, validator=optional([ge(1), le(1000)])
    )
    """The factor by which the longest wait grows with each further attempt."""
    retry_max: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds that no wait between two attempts exceeds."""
    retry_for: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds of attempts and waits after which an event is given up, 0 for never. The time in
    which the plugin is down does not count."""
    max_attempts: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Attempts after which an event is given up; None for no such limit."""
    deduplicate_for: float | None = attrs.field(default=None, validator=optional(ge(0)))
    """Seconds after the end of an event for which a repetition, recognised by the `source` and `id`
    that its publisher gave, is not delivered again, 0 for never. The default is that of Amazon's
    FIFO queues."""
    batch_size: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Events in one batch of a `BatchPlugin`, at most."""
    batch_age: float | None = attrs.field(default=None, validator=optional(gt(0)))
    """Seconds after which a batch closes, from its first event on."""
    batch_bytes: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """JSON bytes in one batch, at most; a larger event is a batch of its own. None for no such
    limit."""
    filter: dict[str, Any] | None = None
    """The events to deliver: for each path of a field a value, or an array of values one of which
    the field must have. A path leads through lists to any of their elements:
    `"points.tags.route" = ["GET:/teapot"]`. None for all events."""
    events: list[str] | None = None
    """Names of the event types to listen to, among those that the class listens to; None for
    all."""

    def over(self, other: DeliverySettings) -> DeliverySettings:
        """Merge: these settings, and the other's for the keys that these leave open.

        >>> author = DeliverySettings(buffer=10, concurrency=4)
        >>> DeliverySettings(buffer=50).over(author)
        ... # doctest: +ELLIPSIS
        DeliverySettings(..., buffer=50, ..., concurrency=4, ...)
        """
        return attrs.evolve(other, **self.decided())

    def decided(self) -> dict[str, Any]:
        """The keys that are given, with their values."""
        return {
            field.name: value
            for field in attrs.fields(DeliverySettings)
            if (value := getattr(self, field.name)) is not None
        }


@attrs.frozen(kw_only=True)
class DeliveryPolicy:
    """The delivery of events to one plugin, as decided; the values here are the defaults.

    `DeliverySettings` says what the keys mean, and their units.
    """

    durable: bool = False
    buffer: int | None = None
    """`BUFFER` in memory; None, for no such limit, on disk."""
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
        """Take each key from the first layer that gives it, and otherwise from the defaults.

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
            chosen.setdefault("buffer", BUFFER)
        return cls(**chosen)
