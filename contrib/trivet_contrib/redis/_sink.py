"""The sink as a plugin: events become entries of a stream.

Owns the settings.
Never knows bytes and connections: the client has them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
from attrs.validators import ge, gt, min_len

from trivet import BrokerChannel, Secret

from .._brokers._channels import shown_servers
from .._brokers._client import Producer, Server
from .._brokers._sink import BrokerSink
from ._producer import Target, open_producer
from ._settings import default_url, is_redis_url


class RedisSink(BrokerSink):
    """Adds events to a stream, batch by batch."""

    url: Secret = attrs.field(factory=default_url, validator=is_redis_url)
    """The URL of Redis; it may hold a password, so no message shows it."""
    stream: str = attrs.field(validator=min_len(1))
    """The key of the stream."""
    create: bool = False
    """Whether to make a stream that is missing, instead of failing."""
    max_length: int = attrs.field(default=1_000_000, validator=ge(0))
    """Entries that the stream keeps, approximately, read or not; 0 for all."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of Redis."""

    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """Connect as a producer."""
        server = Server(url=self.url.reveal(), timeout=self.timeout)
        target = Target(stream=self.stream, create=self.create, max_length=self.max_length)
        return open_producer(server, target)

    def describe_channels(self) -> list[BrokerChannel]:
        """The stream, for `GET /asyncapi.json`."""
        channel = BrokerChannel(
            action="send",
            protocol="redis",
            servers=shown_servers(self.url),
            address=self.stream,
            description="The entries of a stream.",
            is_structured=self.format == "structured",
        )
        return [channel]
