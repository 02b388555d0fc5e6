"""The streams and the group that the settings ask for, and the guarantees that Redis lacks.

Owns the names of the settings that are wrong.
Never knows entries.
"""

from __future__ import annotations

import math
from contextlib import suppress

import attrs
from coredis.exceptions import ResponseError, StreamDuplicateConsumerGroupError

from .._brokers._client import BrokerRefusedError
from ._library import RedisClient
from ._messages import as_text

IDLE_FOR = 3600.0
"""Seconds. A consumer that has been idle for longer is deleted if it has nothing pending."""
OLDEST_VERSION = (7, 0)
"""The oldest version of Redis that will do: from 7.0 on XAUTOCLAIM names the deleted entries."""

DELETE_IDLE_CONSUMERS = """
for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #facts, 2 do consumer[facts[i]] = facts[i + 1] end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
  end
end
"""
"""A script, so that look and deletion are one step: a consumer that is deleted with entries
pending loses them."""


@attrs.frozen(kw_only=True)
class Group:
    """A stream, and the consumer of a group that reads it."""

    stream: str
    group: str
    consumer: str
    create: bool
    """Whether to make a stream that is missing."""
    start: str
    """The beginning of a group that is missing: `0`, the oldest entry, or `$`, the next one."""
    visibility: float
    """Seconds after which other consumers may claim an unacknowledged entry."""
    dead_letters: str
    """The stream of the dead letters."""
    max_dead_letters: int


async def check_group(client: RedisClient, group: Group) -> list[str]:
    """Make what is missing; returns the missing guarantees.

    Raises:
        BrokerRefusedError: something is missing, or is not as the settings say.
    """
    await _check_version(client)
    await _check_stream(client, group.stream, create=group.create)
    await _check_stream(client, group.dead_letters, create=True, setting="dead_letters")
    await _make_group(client, group)
    return [
        *_missing_guarantees(await _configuration(client)),
        *await _delete_idle_consumers(client, group),
    ]


async def check_target(
    client: RedisClient, stream: str, *, create: bool
) -> tuple[float, list[str]]:
    """Look at the stream of a sink.

    Returns:
        The bytes of a field that Redis takes, at most, and the missing guarantees.

    Raises:
        BrokerRefusedError: the stream is missing, or the key is something else.
    """
    await _check_stream(client, stream, create=create)
    configuration = await _configuration(client)
    return _largest(configuration), _missing_guarantees(configuration)


async def _check_version(client: RedisClient) -> None:
    info = await client.info("server")
    version = str(info.get("redis_version", "7.0.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise BrokerRefusedError("url", f"this is Redis {version}; 7.0 or newer is needed")


async def _check_stream(
    client: RedisClient, stream: str, *, create: bool, setting: str = "stream"
) -> None:
    """Raise `BrokerRefusedError` if the key is no stream, or is missing and may not be made."""
    kind = as_text(await client.type(stream) or b"none")
    if kind not in ("stream", "none"):
        raise BrokerRefusedError(setting, f"{stream!r} is a {kind} in Redis, not a stream")
    if kind == "none" and not create:
        reason = f"there is no {stream!r} in Redis; `create = true` makes it"
        raise BrokerRefusedError(setting, reason)


async def _make_group(client: RedisClient, group: Group) -> None:
    with suppress(StreamDuplicateConsumerGroupError):  # The group exists.
        await client.xgroup_create(
            group.stream, group.group, identifier=group.start, mkstream=group.create or None
        )


async def _delete_idle_consumers(client: RedisClient, group: Group) -> list[str]:
    try:
        arguments: list[str | bytes | int | float] = [group.group, int(1000 * IDLE_FOR)]
        await client.eval(DELETE_IDLE_CONSUMERS, [group.stream], arguments)
    except ResponseError as error:
        return [f"consumers of processes that were killed stay in the group's list: {error}"]
    return []


async def _configuration(client: RedisClient) -> dict[str, str] | ResponseError:
    """The configuration of Redis, or why Redis does not tell it."""
    wanted = ["appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "proto-max-bulk-len"]
    try:
        found = await client.config_get(wanted)
    except ResponseError as error:
        return error
    return {as_text(name): as_text(value) for name, value in found.items()}


def _largest(configuration: dict[str, str] | ResponseError) -> float:
    """Bytes of a field that Redis takes, at most, as far as it tells."""
    if isinstance(configuration, ResponseError):
        return math.inf
    limits = [int(configuration.get(name, "0")) for name in ("proto-max-bulk-len", "maxmemory")]
    return min([limit for limit in limits if limit > 0], default=math.inf)


def _missing_guarantees(configuration: dict[str, str] | ResponseError) -> list[str]:
    """The ways in which Redis, as it is set up, may lose something."""
    if isinstance(configuration, ResponseError):
        return [
            f"its settings cannot be read ({configuration}): whether it keeps anything is not known"
        ]
    missing: list[str] = []
    if configuration.get("appendonly") != "yes":
        missing.append("without `appendonly yes` Redis loses the entries since its last snapshot")
    elif configuration.get("appendfsync") != "always":
        policy = configuration.get("appendfsync")
        end = "a power cut"
        if policy == "everysec":  # Redis writes nothing then while it waits for the disk.
            end += ", or a crash of Redis beside a slow disk,"
        missing.append(f"with `appendfsync {policy}` {end} loses the last moments")
    policy = configuration.get("maxmemory-policy", "noeviction")
    if configuration.get("maxmemory", "0") != "0" and policy != "noeviction":
        missing.append(f"with `maxmemory-policy {policy}` a full Redis may drop the stream")
    return missing
