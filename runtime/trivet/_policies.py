"""What an operator may decide about a plugin: how it is delivered to, how it is supervised.

Owns the policies as data, with their defaults, and how one layer of them overrides another.
Never knows the mechanisms that obey them, nor where the values were read from.
"""

from __future__ import annotations

from typing import Literal, get_args

import attrs
from attrs.validators import ge, gt, in_, optional

Restart = Literal["permanent", "transient", "temporary"]
Overflow = Literal["block", "drop_oldest", "drop_newest", "reject"]
OnFull = Literal["drop_oldest", "drop_newest", "reject"]


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """How events reach one plugin. What is None is decided by the next in line.

    The operator (`[plugins.NAME.delivery]`) comes first, then the author (the class attribute
    `delivery`), then the event type, then the defaults of `DeliveryPolicy`.
    """

    buffer: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Events that may wait in the inbox; 1000 by default."""
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
    delivery_limit: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Times that an event is handed to a `run()` that crashes before the event has failed;
    3 by default. RabbitMQ's quorum queues have a limit of the same name."""
    time_limit: float | None = attrs.field(default=None, validator=optional(gt(0)))
    """Seconds that `handle_event` may take for one event, which has failed then; no limit by
    default. A plugin with a `run()` of its own sets its limits itself."""
    events: list[str] | None = None
    """Names of the event types to listen to, of those that the class listens to; all by default."""

    def over(self, other: DeliverySettings) -> DeliverySettings:
        """These settings where they decide, the other's where they do not.

        >>> author = DeliverySettings(buffer=10, concurrency=4)
        >>> DeliverySettings(buffer=50).over(author)
        ... # doctest: +ELLIPSIS
        DeliverySettings(buffer=50, ..., concurrency=4, ...)
        """
        own = {
            field.name: value
            for field in attrs.fields(DeliverySettings)
            if (value := getattr(self, field.name)) is not None
        }
        return attrs.evolve(other, **own)


@attrs.frozen(kw_only=True)
class DeliveryPolicy:
    """What was decided for one subscription; the defaults are here."""

    buffer: int = 1000
    overflow: Overflow = "block"
    block_for: float = 1.0
    on_full: OnFull = "reject"
    concurrency: int = 1
    delivery_limit: int = 3
    time_limit: float | None = None

    @classmethod
    def decide(cls, *layers: DeliverySettings) -> DeliveryPolicy:
        """For each key, the first of the layers that has something to say about it.

        >>> operator, author = DeliverySettings(buffer=5), DeliverySettings(buffer=9, block_for=0)
        >>> DeliveryPolicy.decide(operator, author)
        ... # doctest: +NORMALIZE_WHITESPACE
        DeliveryPolicy(buffer=5, overflow='block', block_for=0, on_full='reject', concurrency=1,
            delivery_limit=3, time_limit=None)
        """
        decided = DeliverySettings()
        for layer in layers:
            decided = decided.over(layer)
        chosen = {name: getattr(decided, name) for name in attrs.fields_dict(cls)}
        return cls(**{name: value for name, value in chosen.items() if value is not None})


@attrs.frozen(kw_only=True)
class SupervisionSettings:
    """How one plugin is restarted (`[plugins.NAME.supervision]`, or the class's `supervision`)."""

    critical: bool = False
    """Whether the program ends, with code 4, when this plugin is given up, or needs one that is."""
    restart: Restart = attrs.field(default="transient", validator=in_(get_args(Restart)))
    """When its `run()` has ended: `"transient"` starts it again if it failed, `"permanent"` if it
    returned, too, `"temporary"` never. The words are those of OTP's supervisors."""
    on_start_failure: Literal["fail", "retry"] = "fail"
    """Whether a first start that fails ends start-up with code 3, or is tried again, however
    often, while the others go on."""
    max_restarts: int = attrs.field(default=5, validator=ge(0))
    """Restarts within `restart_window`; one failure more and the plugin gives up. Five in thirty
    seconds, in the spirit of the intensity and period of OTP's supervisors."""
    restart_window: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds."""
    backoff_initial: float = attrs.field(default=0.5, validator=ge(0))
    """Seconds before the first restart, at most; each further one doubles it (full jitter: the
    wait is drawn evenly between zero and that)."""
    backoff_max: float = attrs.field(default=30.0, validator=ge(0))
    """Seconds that a wait is never above."""
