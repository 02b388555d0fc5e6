"""The sink as a plugin: events become messages of an exchange, or of a queue.

Owns the settings.
Never knows bytes and connections: the client has them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
from attrs.validators import gt

from trivet import AsyncioPlugin, BrokerChannel, PermanentError, Secret

from .._brokers._channels import shown_servers
from .._brokers._client import Producer, Server
from .._brokers._on_asyncio import producer_on_asyncio
from .._brokers._sink import BrokerSink
from ._channels import BINDING_VERSION, exchange_binding, queue_binding
from ._checks import Queue
from ._producer import Target, open_producer
from ._settings import default_url, is_amqp_url, is_short


class TargetMissingError(PermanentError):
    """The settings name neither a queue nor an exchange, or both."""


class RabbitmqSink(AsyncioPlugin, BrokerSink):
    """Publishes events to an exchange, or to a queue, batch by batch."""

    url: Secret = attrs.field(factory=default_url, validator=is_amqp_url)
    """The URL of RabbitMQ; it may hold a password, so no message shows it."""
    queue: str = attrs.field(default="", validator=is_short)
    """The queue to publish to, without an exchange."""
    create: bool = False
    """Whether to make a queue that is missing, instead of failing."""
    exchange: str = attrs.field(default="", validator=is_short)
    """The exchange to publish to; it has to exist."""
    routing_key: str = attrs.field(default="", validator=is_short)
    """The routing key of messages that are published to an exchange."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of RabbitMQ."""

    async def initialize(self) -> None:
        """Find wrong settings."""
        if bool(self.queue) is bool(self.exchange):
            raise TargetMissingError(f"plugins.{self.name}: name a `queue`, or an `exchange`")
        await self.run_on_trio(super().initialize)

    def connect(self) -> AbstractAsyncContextManager[Producer]:
        """Connect as a producer."""
        queue = Queue(name=self.queue, create=self.create) if self.queue else None
        target = Target(
            exchange=self.exchange, routing_key=self.queue or self.routing_key, queue=queue
        )
        server = Server(url=self.url.reveal(), timeout=self.timeout, name=self.app.service)
        return producer_on_asyncio(self.run_on_asyncio, open_producer(server, target))

    def describe_channels(self) -> list[BrokerChannel]:
        """The queue, or the exchange with its routing key, for `GET /asyncapi.json`."""
        is_queue = bool(self.queue)
        channel = BrokerChannel(
            action="send",
            protocol="amqp",
            servers=shown_servers(self.url),
            address=self.queue or self.routing_key or None,
            description="The messages of a queue." if is_queue else "The messages of an exchange.",
            is_structured=self.format == "structured",
            bindings=queue_binding(self.queue) if is_queue else exchange_binding(self.exchange),
            operation_bindings={"deliveryMode": 2, "mandatory": True, **BINDING_VERSION},
        )
        return [channel]
