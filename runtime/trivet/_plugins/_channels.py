"""A broker's channel, as a plugin describes it for `GET /asyncapi.json`.

Owns the facts of a channel.
Never knows the form of the document, nor any broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs

from .._events._event import Event


@attrs.frozen(kw_only=True)
class BrokerChannel:
    """A stream, a queue or a subject of a broker, by which a plugin receives or sends events.

    >>> channel = BrokerChannel(
    ...     action="receive", protocol="mqtt", servers=["mqtt://127.0.0.1:1883"], address="orders"
    ... )
    """

    action: Literal["receive", "send"]
    """Whether the program receives the messages, or sends them."""
    protocol: str
    """The protocol, as AsyncAPI names its bindings: `redis`, `nats`, `amqp`."""
    servers: Sequence[str]
    """The URLs of the broker, without user and password."""
    address: str | None
    """The name of the stream, the queue or the subject; None where it is not known beforehand."""
    description: str = ""
    """One sentence about it, for people."""
    events: Sequence[type[Event]] | None = None
    """The event types of its messages; by default all that the program may receive from outside and
    listens to, or all that the plugin listens to."""
    is_structured: bool = False
    """Whether a message is a CloudEvent in one document, and not the event's data."""
    bindings: Mapping[str, object] = attrs.field(factory=dict[str, object])
    """AsyncAPI's binding of the channel for this protocol."""
    operation_bindings: Mapping[str, object] = attrs.field(factory=dict[str, object])
    """AsyncAPI's binding of the operation for this protocol."""
