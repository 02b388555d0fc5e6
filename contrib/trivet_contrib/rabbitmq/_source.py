"""The source as a plugin: messages of a queue become events.

Owns the settings.
Never knows bytes and connections; those are the client's.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
from attrs.validators import gt

from trivet import AsyncioPlugin

from .._brokers._across import consumer_across
from .._brokers._client import Consumer
from .._brokers._source import BrokerSource, is_another
from ._checks import Queue
from ._connection import Server
from ._consumer import Kept, open_consumer
from ._settings import is_amqp_url, is_name, is_short


class RabbitmqSource(AsyncioPlugin, BrokerSource):
    """Publishes the messages of a quorum queue, as one of its consumers."""

    url: str = attrs.field(default="amqp://127.0.0.1:5672", validator=is_amqp_url, repr=False)
    """Where RabbitMQ is; it may hold a password, so it stands in no message."""
    queue: str = attrs.field(validator=is_name)
    """The queue's name; programs that name the same one share the work."""
    create: bool = False
    """Whether to make queues that are missing, instead of failing."""
    exchange: str = attrs.field(default="", validator=is_short)
    """What the queue is bound to; without it, to nothing else than it is."""
    routing_key: str = attrs.field(default="", validator=is_short)
    """With which it is bound."""
    visibility: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds after which what has failed is tried again."""
    dead_letters: str = attrs.field(default="", validator=[is_short, is_another("queue")])
    """The queue for what cannot be read, or handled; by default the queue's name with `_dead`."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of RabbitMQ."""

    _kept: Kept

    async def initialize(self) -> None:
        """Find wrong settings."""
        self._kept = Kept()
        await self.run_on_trio(super().initialize)

    @property
    def origin(self) -> str:
        """The queue, for events whose message does not say where they are from."""
        return f"rabbitmq:{self.queue}"

    def connect(self) -> AbstractAsyncContextManager[Consumer]:
        """As a consumer of the queue."""
        queue = Queue(
            name=self.queue,
            create=self.create,
            exchange=self.exchange,
            routing_key=self.routing_key,
            visibility=self.visibility,
            delivery_limit=self.delivery_limit,
            prefetch=self.prefetch,
            dead_letters=self.dead_letters or f"{self.queue}_dead",
        )
        server = Server(url=self.url, timeout=self.timeout, name=self.app.service)
        return consumer_across(self.run_on_asyncio, open_consumer(server, queue, self._kept))
