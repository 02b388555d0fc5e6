"""The dead letters of a running program, for its operator: searched, shown, replayed, purged.

Owns the filter in a request's query, and the pages of a list.
Never knows the file: that is the store's.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import trio

from .._program._settings import IN_MEMORY
from .._runtime import Runtime
from ._admin import acted, one_thread
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError

if TYPE_CHECKING:
    from .._store._dead_letters import Criteria, DeadLetters

T = TypeVar("T")
Action = Literal["replay", "purge"]

PAGE = 100
"""Dead letters in one response, unless the request says `limit`."""
LARGEST_PAGE = 1000
LARGEST = 2**63 - 1
"""The largest number that SQLite has."""


def add_dead_letters(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `/-/dead-letters` and what is below, for an operator with a token for `admin`."""

    async def search(request: EndpointRequest) -> EndpointResponse:
        """The dead letters that match, the newest first, without payloads.

        `count` is the number of all that match. `next` is the `before` of the next page; null on
        the last one.
        """
        chosen, limit = _criteria(request), _whole(request, "limit", LARGEST_PAGE) or PAGE
        before = _whole(request, "before", LARGEST)
        if _is_without_store(runtime):
            return {"dead_letters": [], "count": 0, "next": None}, 200
        return await _work(runtime, partial(_page, chosen, limit, before)), 200

    async def show(request: EndpointRequest) -> EndpointResponse:
        """One dead letter, with its failures, its envelope and its payload."""
        number = _number(request.variable)
        found = None
        if not _is_without_store(runtime):
            found = await _work(runtime, partial(_one, number))
        if found is None:
            raise ProblemError("unknown_dead_letter", f"there is no dead letter {number}")
        return found, 200

    async def replay(request: EndpointRequest) -> EndpointResponse:
        """Deliver all dead letters that match again, each to the plugin that failed."""
        return await _act(runtime, request, "replay"), 200

    async def purge(request: EndpointRequest) -> EndpointResponse:
        """Delete all dead letters that match, for ever."""
        return await _act(runtime, request, "purge"), 200

    fast_path.add("GET", "/-/dead-letters", "admin", search)
    fast_path.add("GET", "/-/dead-letters/<number>", "admin", show)
    fast_path.add("POST", "/-/dead-letters/replay", "admin", replay)
    fast_path.add("POST", "/-/dead-letters/purge", "admin", purge)


async def _act(runtime: Runtime, request: EndpointRequest, action: Action) -> dict[str, object]:
    """Replay or purge; the transactions are short, and a stop does not wait for the last one."""
    from .._store._dead_letters import ALL  # noqa: PLC0415 - SQLite, which few programs need

    chosen, every = _criteria(request), request.query("all")
    if (chosen != ALL) == (every == "true"):
        names = "`number`, `plugin`, `event`, `since`, `until` or `text`"
        raise ProblemError("invalid_query", f"say which by {names}, or `all=true`")
    count = 0
    if not _is_without_store(runtime):
        count = await _work(runtime, partial(_do, action, chosen))
        acted(runtime, request, f"{action} dead letters", chosen.plugin)
    return {"count": count}


def _page(
    chosen: Criteria, limit: int, before: int | None, letters: DeadLetters
) -> dict[str, object]:
    from .._store._documents import facts  # noqa: PLC0415 - see above

    found = letters.list(chosen, limit=limit + 1, before=before)
    shown, is_last = found[:limit], len(found) <= limit
    return {
        "dead_letters": [facts(letter) for letter in shown],
        "count": letters.count(chosen),
        "next": None if is_last else shown[-1].number,
    }


def _one(number: int, letters: DeadLetters) -> dict[str, object] | None:
    from .._store._documents import everything  # noqa: PLC0415 - see above

    letter = letters.get(number)
    return None if letter is None else everything(letter)


def _do(action: Action, chosen: Criteria, letters: DeadLetters) -> int:
    for number in chosen.numbers or ():
        if letters.get(number) is None:
            raise ProblemError("unknown_dead_letter", f"there is no dead letter {number}")
    return letters.replay(chosen) if action == "replay" else letters.purge(chosen)


def _is_without_store(runtime: Runtime) -> bool:
    """Whether nothing is durable, and there never was a file."""
    return runtime.program.settings.store.path == IN_MEMORY and runtime.store is None


async def _work(runtime: Runtime, work: Callable[[DeadLetters], T]) -> T:
    """Do some work on the file in the operator's thread."""
    from .._store._records import JournalError  # noqa: PLC0415 - see above

    path = runtime.program.settings.store.path
    if path == IN_MEMORY:
        detail = "the store is in memory, which nobody can look into"
        raise ProblemError("store_unavailable", detail)
    opened = partial(_with_letters, path, work)
    try:
        return await trio.to_thread.run_sync(opened, abandon_on_cancel=True, limiter=one_thread)
    except JournalError as error:
        raise ProblemError("store_unavailable", str(error)) from error


def _with_letters(path: Path, work: Callable[[DeadLetters], T]) -> T:
    from .._store._dead_letters import DeadLetters  # noqa: PLC0415 - see above

    with DeadLetters(path) as letters:
        return work(letters)


# The query.


def _criteria(request: EndpointRequest) -> Criteria:
    """The filter in the query."""
    from .._store._dead_letters import Criteria  # noqa: PLC0415 - see above

    numbers = request.query("number")
    chosen: dict[str, Any] = {
        "numbers": None if numbers is None else [_number(each) for each in numbers.split(",")],
        **{name: request.query(name) for name in ("plugin", "event", "text")},
        **{name: _moment(request, name) for name in ("since", "until")},
    }
    return Criteria(**chosen)


def _moment(request: EndpointRequest, name: str) -> float | None:
    text = request.query(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    detail = f"`{name}` is a date and time with a zone, such as 2026-03-01T12:00Z"
    raise ProblemError("invalid_query", detail)


def _whole(request: EndpointRequest, name: str, largest: int) -> int | None:
    text = request.query(name)
    return None if text is None else _number(text, f"`{name}`", largest)


def _number(text: str, what: str = "the number of a dead letter", largest: int = LARGEST) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= largest:
        return int(text)
    raise ProblemError("invalid_query", f"{what} is a whole number from 1 to {largest}")
