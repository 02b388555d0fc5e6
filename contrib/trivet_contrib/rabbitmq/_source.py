"""The source as a plugin: messages of a queue become events.

Owns the settings.
Never knows bytes and connections: the client has them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
from attrs.validators import gt

from trivet import AsyncioPlugin, BrokerChannel, Secret

from .._brokers._channels import shown_servers
from .._brokers._client import Consumer, Server
from .._brokers._on_asyncio import consumer_on_asyncio
from .._brokers._source import BrokerSource, differs_from
from ._channels import BINDING_VERSION, queue_binding
from ._checks import Queue
from ._consumer import Session, open_consumer
from ._settings import default_url, is_amqp_url, is_name, is_short


class RabbitmqSource(AsyncioPlugin, BrokerSource):
    """Publishes the messages of a quorum queue, as one of its consumers."""

    url: Secret = attrs.field(factory=default_url, validator=is_amqp_url)
    """The URL of RabbitMQ; it may hold a password, so no message shows it."""
    queue: str = attrs.field(validator=is_name)
    """The queue's name; programs that name the same one share the work."""
    create: bool = False
    """Whether to make queues that are missing, instead of failing."""
    exchange: str = attrs.field(default="", validator=is_short)
    """The exchange to bind the queue to; by default its bindings stay as they are."""
    routing_key: str = attrs.field(default="", validator=is_short)
    """The routing key of the binding."""
    visibility: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds after which a failed message is tried again."""
    dead_letters: str = attrs.field(default="", validator=[is_short, differs_from("queue")])
    """The queue of the dead letters; by default the queue's name with `_dead`."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of RabbitMQ."""

    _session: Session

    async def initialize(self) -> None:
        """Find wrong settings."""
        self._session = Session()
        await self.run_on_trio(super().initialize)

    @property
    def origin(self) -> str:
        """The queue, for an event whose message names no source."""
        return f"rabbitmq:{self.queue}"

    def connect(self) -> AbstractAsyncContextManager[Consumer]:
        """Connect as a consumer of the queue."""
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
        server = Server(url=self.url.reveal(), timeout=self.timeout, name=self.app.service)
        consumer = open_consumer(server, queue, self._session)
        return consumer_on_asyncio(self.run_on_asyncio, consumer)

    def describe_channels(self) -> list[BrokerChannel]:
        """The queue, for `GET /asyncapi.json`."""
        channel = BrokerChannel(
            action="receive",
            protocol="amqp",
            servers=shown_servers(self.url),
            address=self.queue,
            description="The messages of a quorum queue.",
            events=self.only_event,
            bindings=queue_binding(self.queue),
            operation_bindings={"ack": True, **BINDING_VERSION},
        )
        return [channel]
