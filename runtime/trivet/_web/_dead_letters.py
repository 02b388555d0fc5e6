"""The dead letters of a running program, for its operator: replayed and thrown away by filter.

Owns the filter in a request's query.
Never knows the file: that is the store's.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import attrs
import trio

from .._program._settings import IN_MEMORY
from .._runtime import Runtime
from ._admin import acted, one_thread
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError

Action = Literal["replay", "purge"]


@attrs.frozen
class Filter:
    """The dead letters that are meant; None for a criterion that does not matter."""

    plugin: str | None
    since: float | None
    """POSIX seconds."""


def add_dead_letters(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `POST /-/dead-letters/replay` and `POST /-/dead-letters/purge`."""

    async def replay(request: EndpointRequest) -> EndpointResponse:
        """Deliver all dead letters that match again, each to the plugin that failed."""
        return await _done(runtime, request, "replay")

    async def purge(request: EndpointRequest) -> EndpointResponse:
        """Delete all dead letters that match, for ever."""
        return await _done(runtime, request, "purge")

    fast_path.add("POST", "/-/dead-letters/replay", "admin", replay)
    fast_path.add("POST", "/-/dead-letters/purge", "admin", purge)


def _filter(request: EndpointRequest) -> Filter:
    """The filter in the query, which says `all=true` where it means every dead letter."""
    plugin, since, every = request.query("plugin"), request.query("since"), request.query("all")
    if (plugin is not None or since is not None) == (every == "true"):
        raise ProblemError("invalid_query", "say `plugin`, `since` or both, or `all=true`")
    return Filter(plugin, None if since is None else _moment(since))


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    detail = "`since` is a date and time with a zone, such as 2026-03-01T12:00Z"
    raise ProblemError("invalid_query", detail)


async def _done(runtime: Runtime, request: EndpointRequest, action: Action) -> EndpointResponse:
    """Do it in a thread, whose transactions are short; a stop does not wait for the last one."""
    chosen = _filter(request)
    from .._store._records import JournalError  # noqa: PLC0415 - most programs need no store

    path = runtime.program.settings.store.path
    if path == IN_MEMORY:
        if runtime.store is None:  # Nothing is durable, and there never was a file.
            return {"count": 0}, 200
        raise ProblemError(
            "store_unavailable", "the store is in memory, which nobody can look into"
        )
    work = partial(_do, path, action, chosen)
    try:
        count = await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=one_thread)
    except JournalError as error:
        raise ProblemError("store_unavailable", str(error)) from error
    acted(runtime, request, f"{action} dead letters", chosen.plugin)
    return {"count": count}, 200


def _do(path: Path, action: Action, chosen: Filter) -> int:
    from .._store._dead_letters import DeadLetters  # noqa: PLC0415 - see above

    with DeadLetters(path) as letters:
        do = letters.replay if action == "replay" else letters.purge
        return do(plugin=chosen.plugin, since=chosen.since)
