"""The source as a plugin: entries of a stream become events.

Owns the settings.
Never knows bytes and connections; those are the client's.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import attrs
from attrs.validators import ge, gt, min_len

from .._brokers._client import Consumer
from .._brokers._source import BrokerSource, is_another
from ._consumer import Group, Server, new_name, open_consumer
from ._settings import is_redis_url


class RedisSource(BrokerSource):
    """Publishes the entries of a stream, as a consumer of a group that others may share."""

    url: str = attrs.field(default="redis://127.0.0.1:6379", validator=is_redis_url, repr=False)
    """Where Redis is; it may hold a password, so it stands in no message."""
    stream: str = attrs.field(validator=min_len(1))
    """The stream's key."""
    group: str = attrs.field(default="trivet", validator=min_len(1))
    """The consumer group; it is made where it is missing."""
    create: bool = False
    """Whether to make a stream that is missing, instead of failing."""
    start: str = "0"
    """Where a group that is missing begins: `0` is the oldest entry, `$` what comes from now on."""
    visibility: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds after which others take over what is in hand of a consumer that is not heard of, and
    after which what has failed is tried again."""
    dead_letters: str = attrs.field(default="", validator=is_another("stream"))
    """The stream for what cannot be read, or handled; by default the stream's name with `:dead`."""
    max_dead_letters: int = attrs.field(default=100_000, validator=ge(1))
    """Entries that are kept there, more or less."""
    timeout: float = attrs.field(default=5.0, validator=gt(0))
    """Seconds for one answer of Redis."""

    _consumer: str

    async def initialize(self) -> None:
        """Choose a name, which the group knows this program by, and find wrong settings."""
        self._consumer = new_name(self.app.service)
        await super().initialize()

    @property
    def origin(self) -> str:
        """The stream, for events whose entry does not say where they are from."""
        return f"redis:{self.stream}"

    def connect(self) -> AbstractAsyncContextManager[Consumer]:
        """As a consumer of the group."""
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
        return open_consumer(Server(url=self.url, timeout=self.timeout), group)
