"""The sink as a plugin: events become messages of a stream.

Owns the settings.
Never knows bytes and connections: the client has them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
from attrs.validators import gt

from trivet import AsyncioPlugin, BrokerChannel, Secret

from .._brokers._channels import shown_servers
from .._brokers._client import Producer
from .._brokers._on_asyncio import producer_on_asyncio
from .._brokers._sink import BrokerSink
from ._connection import NatsServer
from ._producer import Target, open_producer
from ._settings import are_credentials, default_url, is_name, is_nats_url, is_subject


class NatsSink(AsyncioPlugin, BrokerSink):
    """Publishes events to a stream, batch by batch."""

    url: Secret = attrs.field(factory=default_url, validator=is_nats_url)
    """The URL of NATS; it may hold a password, so no message shows it."""
    credentials: Secret | None = attrs.field(default=None, validator=are_credentials)
    """A user's credentials (the text of a `.creds` file), or the seed of the user's nkey."""
    stream: str = attrs.field(validator=is_name)
    """The name of the stream."""
    subject: str = attrs.field(default="", validator=is_subject)
    """The subject to publish to; by default the stream's name."""
    create: bool = False
    """Whether to make a stream that is missing, instead of failing."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of NATS."""

    async def initialize(self) -> None:
        """Find wrong settings."""
        await self.run_on_trio(super().initialize)

    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """Connect as a producer."""
        server = NatsServer(
            url=self.url.reveal(),
            credentials=None if self.credentials is None else self.credentials.reveal(),
            timeout=self.timeout,
            name=self.app.service,
        )
        target = Target(stream=self.stream, subject=self.subject or self.stream, create=self.create)
        return producer_on_asyncio(self.run_on_asyncio, open_producer(server, target))

    def describe_channels(self) -> list[BrokerChannel]:
        """The subject, for `GET /asyncapi.json`."""
        channel = BrokerChannel(
            action="send",
            protocol="nats",
            servers=shown_servers(self.url),
            address=self.subject or self.stream,
            description=f"Messages of the stream {self.stream!r}.",
            is_structured=self.format == "structured",
        )
        return [channel]
