"""The source as a plugin: messages of a stream become events.

Owns the settings.
Never knows bytes and connections; those are the client's.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal

import attrs
from attrs.validators import ge, gt
from nats.js.api import DeliverPolicy

from trivet import AsyncioPlugin

from .._brokers._across import consumer_across
from .._brokers._client import Consumer
from .._brokers._source import BrokerSource, is_another
from ._checks import Durable
from ._connection import Server
from ._consumer import Hand, open_consumer
from ._settings import are_credentials, is_filter, is_name, is_name_or_empty, is_nats_url


class NatsSource(AsyncioPlugin, BrokerSource):
    """Publishes the messages of a stream, as one of those who share a durable pull consumer."""

    url: str = attrs.field(default="nats://127.0.0.1:4222", validator=is_nats_url, repr=False)
    """Where NATS is; it may hold a password, so it stands in no message."""
    credentials: Path | None = attrs.field(default=None, validator=are_credentials)
    """A file that says who this is: a user's credentials (`.creds`), or the seed of its nkey."""
    stream: str = attrs.field(validator=is_name)
    """The stream's name."""
    consumer: str = attrs.field(default="trivet", validator=is_name)
    """The durable consumer's name; programs that name the same one share the work."""
    subject: str = attrs.field(default="", validator=is_filter)
    """What of the stream, with `*` and `>`; all of it without."""
    create: bool = False
    """Whether to make streams and a consumer that are missing, instead of failing."""
    start: Literal["all", "new"] = "all"
    """Where a consumer that is made begins: with the oldest message, or what comes from now on."""
    visibility: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds after which others get what is in hand of a program that is not heard of, and
    after which what has failed is tried again; the consumer's `ack_wait`."""
    dead_letters: str = attrs.field(default="", validator=[is_name_or_empty, is_another("stream")])
    """The stream, and its subject, for what cannot be read, or handled; by default the stream's
    name with `_dead`."""
    max_dead_letters: int = attrs.field(default=100_000, validator=ge(1))
    """Messages that are kept there, where the stream is made here."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of NATS."""

    _hand: Hand

    async def initialize(self) -> None:
        """Find wrong settings."""
        self._hand = Hand()
        await self.run_on_trio(super().initialize)

    @property
    def origin(self) -> str:
        """The stream, for events whose message does not say where they are from."""
        return f"nats:{self.stream}"

    def connect(self) -> AbstractAsyncContextManager[Consumer]:
        """As one of the consumer's."""
        server = Server(
            url=self.url,
            credentials=self.credentials,
            timeout=self.timeout,
            name=self.app.service,
        )
        durable = Durable(
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
        made = open_consumer(server, durable, self._hand)
        return consumer_across(self.run_on_asyncio, made)
