"""The source as a plugin: messages of a stream become events.

Owns the settings.
Never knows bytes and connections: the client has them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Literal

import attrs
from attrs.validators import ge, gt
from nats.js.api import DeliverPolicy

from trivet import AsyncioPlugin, BrokerChannel, Secret

from .._brokers._channels import shown_servers
from .._brokers._client import Consumer
from .._brokers._on_asyncio import consumer_on_asyncio
from .._brokers._source import BrokerSource, differs_from
from ._checks import DurableConsumer
from ._connection import NatsServer
from ._consumer import open_consumer
from ._settings import (
    are_credentials,
    default_url,
    is_filter,
    is_name,
    is_name_or_empty,
    is_nats_url,
)
from ._unacked import Unacked


class NatsSource(AsyncioPlugin, BrokerSource):
    """Publishes the messages of a stream, through a durable pull consumer."""

    url: Secret = attrs.field(factory=default_url, validator=is_nats_url)
    """The URL of NATS; it may hold a password, so no message shows it."""
    credentials: Secret | None = attrs.field(default=None, validator=are_credentials)
    """A user's credentials (the text of a `.creds` file), or the seed of the user's nkey."""
    stream: str = attrs.field(validator=is_name)
    """The name of the stream."""
    consumer: str = attrs.field(default="trivet", validator=is_name)
    """The durable consumer's name; programs that name the same consumer share the work."""
    subject: str = attrs.field(default="", validator=is_filter)
    """The subjects to consume, with `*` and `>`; by default all of the stream."""
    create: bool = False
    """Whether to make streams and a consumer that are missing, instead of failing."""
    start: Literal["all", "new"] = "all"
    """The beginning of a consumer that is made here: the oldest message, or the next one."""
    visibility: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds after which other programs get the messages of a dead program, and after which a
    failed message is tried again; the consumer's `ack_wait`."""
    dead_letters: str = attrs.field(
        default="", validator=[is_name_or_empty, differs_from("stream")]
    )
    """The stream of the dead letters, and its subject; by default the stream's name with
    `_dead`."""
    max_dead_letters: int = attrs.field(default=100_000, validator=ge(1))
    """Dead letters that are kept, if their stream is made here."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of NATS."""

    _unacked: Unacked

    async def initialize(self) -> None:
        """Find wrong settings."""
        self._unacked = Unacked()
        await self.run_on_trio(super().initialize)

    @property
    def origin(self) -> str:
        """The stream, for an event whose message names no source."""
        return f"nats:{self.stream}"

    def connect(self) -> AbstractAsyncContextManager[Consumer]:
        """Connect to the consumer."""
        server = NatsServer(
            url=self.url.reveal(),
            credentials=None if self.credentials is None else self.credentials.reveal(),
            timeout=self.timeout,
            name=self.app.service,
        )
        durable = DurableConsumer(
            stream=self.stream,
            consumer=self.consumer,
            subject=self.subject,
            create=self.create,
            start=DeliverPolicy(self.start),
            visibility=self.visibility,
            delivery_limit=self.delivery_limit,
            prefetch=self.prefetch,
            dead_letters=self.dead_letters or f"{self.stream}_dead",
            max_dead_letters=self.max_dead_letters,
        )
        consumer = open_consumer(server, durable, self._unacked)
        return consumer_on_asyncio(self.run_on_asyncio, consumer)

    def describe_channels(self) -> list[BrokerChannel]:
        """The subjects of the stream, for `GET /asyncapi.json`."""
        channel = BrokerChannel(
            action="receive",
            protocol="nats",
            servers=shown_servers(self.url),
            address=self.subject or None,  # The broker knows the subjects of a stream.
            description=f"Messages of the stream {self.stream!r}, by the durable consumer "
            f"{self.consumer!r}.",
            events=self.only_event,
            operation_bindings={"queue": self.consumer, "bindingVersion": "0.1.0"},
        )
        return [channel]
