"""The source as a plugin: entries of a stream become events.

Owns the settings.
Never knows bytes and connections: the client has them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
from attrs.validators import ge, gt, min_len

from trivet import BrokerChannel, Secret

from .._brokers._channels import shown_servers
from .._brokers._client import Consumer, Server
from .._brokers._source import BrokerSource, differs_from
from ._checks import Group
from ._consumer import new_name, open_consumer
from ._settings import default_url, is_redis_url


class RedisSource(BrokerSource):
    """Publishes the entries of a stream, as a consumer of a group that programs may share."""

    url: Secret = attrs.field(factory=default_url, validator=is_redis_url)
    """The URL of Redis; it may hold a password, so no message shows it."""
    stream: str = attrs.field(validator=min_len(1))
    """The key of the stream."""
    group: str = attrs.field(default="trivet", validator=min_len(1))
    """The consumer group; a missing group is made."""
    create: bool = False
    """Whether to make a stream that is missing, instead of failing."""
    start: str = "0"
    """The beginning of a missing group: `0`, the oldest entry, or `$`, the next one that comes."""
    visibility: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds after which other consumers claim the entries of a dead consumer, and after which a
    failed entry is tried again."""
    dead_letters: str = attrs.field(default="", validator=differs_from("stream"))
    """The stream of the dead letters; by default the stream's name with `:dead`."""
    max_dead_letters: int = attrs.field(default=100_000, validator=ge(1))
    """Dead letters that are kept, approximately."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of Redis."""

    _consumer: str

    async def initialize(self) -> None:
        """Choose the consumer's name in the group, and find wrong settings."""
        self._consumer = new_name(self.app.service)
        await super().initialize()

    @property
    def origin(self) -> str:
        """The stream, for an event whose entry names no source."""
        return f"redis:{self.stream}"

    def connect(self) -> AbstractAsyncContextManager[Consumer]:
        """Connect as a consumer of the group."""
        group = Group(
            stream=self.stream,
            group=self.group,
            consumer=self._consumer,
            create=self.create,
            start=self.start,
            visibility=self.visibility,
            dead_letters=self.dead_letters or f"{self.stream}:dead",
            max_dead_letters=self.max_dead_letters,
        )
        return open_consumer(Server(url=self.url.reveal(), timeout=self.timeout), group)

    def describe_channels(self) -> list[BrokerChannel]:
        """The stream, for `GET /asyncapi.json`."""
        channel = BrokerChannel(
            action="receive",
            protocol="redis",
            servers=shown_servers(self.url),
            address=self.stream,
            description=f"The entries of a stream, for the consumer group {self.group!r}.",
            events=self.only_event,
        )
        return [channel]
