"""The sink as a plugin: events become messages of a stream.

Owns the settings.
Never knows bytes and connections; those are the client's.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
from attrs.validators import gt

from trivet import AsyncioPlugin

from .._brokers._across import producer_across
from .._brokers._client import Producer
from .._brokers._sink import BrokerSink
from ._connection import Server
from ._producer import Target, open_producer
from ._settings import are_credentials, is_name, is_nats_url, is_subject


class NatsSink(AsyncioPlugin, BrokerSink):
    """Publishes events to a stream, batch by batch."""

    url: str = attrs.field(default="nats://127.0.0.1:4222", validator=is_nats_url, repr=False)
    """Where NATS is; it may hold a password, so it stands in no message."""
    credentials: Path | None = attrs.field(default=None, validator=are_credentials)
    """A file that says who this is: a user's credentials (`.creds`), or the seed of its nkey."""
    stream: str = attrs.field(validator=is_name)
    """The stream's name."""
    subject: str = attrs.field(default="", validator=is_subject)
    """What is published to; by default the stream's name."""
    create: bool = False
    """Whether to make a stream that is missing, instead of failing."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of NATS."""

    async def initialize(self) -> None:
        """Find wrong settings."""
        await self.run_on_trio(super().initialize)

    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """As a producer."""
        server = Server(
            url=self.url,
            credentials=self.credentials,
            timeout=self.timeout,
            name=self.app.service,
        )
        target = Target(stream=self.stream, subject=self.subject or self.stream, create=self.create)
        return producer_across(self.run_on_asyncio, open_producer(server, target))
