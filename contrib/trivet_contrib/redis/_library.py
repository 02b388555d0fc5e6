"""The one door to coredis' inside, and to the answers for which coredis has no types.

Owns the list of what is used there although coredis does not document it.
Never knows streams' groups, nor a connector's messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import coredis
from coredis.commands import CommandRequest

RedisClient = coredis.Redis[bytes]
Entries = Mapping[bytes, Sequence[tuple[bytes, Sequence[bytes]]]]
"""Streams with their entries; an entry is its identifier, and its fields in turn."""

LOGGERS = ("coredis",)
"""The loggers of coredis that report errors which coredis raises as well."""

INSIDE = {
    "coredis.commands:CommandRequest.callback": "attribute",
    "coredis.commands:CommandRequest.__await__": "(self)",
}
"""The undocumented names that are used here, each with the signature that is counted on."""


class Pending(Protocol):
    """An entry of XPENDING's long answer."""

    identifier: bytes
    consumer: bytes
    delivered: int


async def pending_entries(request: CommandRequest[Any]) -> Sequence[Pending]:
    """The answer to an XPENDING with a range, which coredis types as either of two forms."""
    return cast("Sequence[Pending]", await request)


async def entries_as_sent(request: CommandRequest[Any]) -> Entries:
    """The answer to an XREADGROUP as Redis sends it.

    coredis would first put each entry into an object of its own, for a microsecond or two.
    """
    raw = cast("CommandRequest[Entries | None]", request)
    raw.callback = _unchanged
    return await raw or {}


def _unchanged(answer: Entries | None) -> Entries | None:
    return answer
