"""Dead letters where a command finds them: in the file, or at the running program.

Owns the two ways to ask, with one answer.
Never knows how an operator selects them, nor how they are printed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from .._faults._errors import ConfigurationError
from .._program._reading import load_settings
from .._program._settings import IN_MEMORY
from .._store._dead_letters import Criteria, DeadLetters
from .._store._documents import everything, facts
from .._store._schema import reported
from ._running import Place, RefusedError, RunningProgram

Document = dict[str, Any]
Action = Literal["replay", "purge"]
PAGE = 1000
"""Dead letters in one answer of a program, at most."""


class Letters(Protocol):
    """The dead letters of one program, to be left with `with`."""

    def __enter__(self) -> Letters: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def search(self, chosen: Criteria, limit: int) -> tuple[list[Document], int]:
        """The newest that match, at most `limit`, and the number of all that match."""
        ...

    def get(self, number: int) -> Document:
        """One with its payload."""
        ...

    def do(self, action: Action, chosen: Criteria, reason: str | None) -> int:
        """Replay or purge all that match; if one number is unknown, none of them."""
        ...


def letters_at(place: Place) -> Letters:
    """The dead letters of the program at an address, or else those in the settings' file.

    Raises:
        ConfigurationError: there is no such file, or no address.
        JournalError: the file is no store, or cannot be read.
    """
    return OfProgram(place) if place.is_named else InFile(DeadLetters(_file(place.config)))


class OfProgram(RunningProgram):
    """See `Letters`: those of a running program."""

    def search(self, chosen: Criteria, limit: int) -> tuple[list[Document], int]:
        """See `Letters`; asks page by page."""
        found: list[Document] = []
        count, before = 0, None
        while len(found) < limit:
            query = {**_query(chosen), "limit": min(limit - len(found), PAGE), "before": before}
            page = self.ask("GET", "/-/dead-letters", query)
            found += page["dead_letters"]
            count, before = page["count"], page["next"]
            if before is None:
                break
        return found, count

    def get(self, number: int) -> Document:
        """See `Letters`."""
        document: Document = self.ask("GET", f"/-/dead-letters/{number}")
        return document

    def do(self, action: Action, chosen: Criteria, reason: str | None) -> int:
        """See `Letters`."""
        every = "true" if chosen == Criteria() else None
        query = {**_query(chosen), "all": every, "reason": reason}
        count: int = self.ask("POST", f"/-/dead-letters/{action}", query)["count"]
        return count


class InFile:
    """See `Letters`: those in the file of a program that runs, or does not.

    Args:
        letters: the file, open.
    """

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters

    def __enter__(self) -> InFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._letters.__exit__(kind, error, trace)

    def search(self, chosen: Criteria, limit: int) -> tuple[list[Document], int]:
        """See `Letters`."""
        found = self._letters.list(chosen, limit=limit)
        return [facts(letter) for letter in found], self._letters.count(chosen)

    def get(self, number: int) -> Document:
        """See `Letters`."""
        letter = self._letters.get(number)
        if letter is None:
            raise RefusedError(f"there is no dead letter {number}")
        return everything(letter)

    def do(self, action: Action, chosen: Criteria, reason: str | None) -> int:
        """See `Letters`; nobody would be told a reason, and the command refuses one."""
        for number in chosen.numbers or ():
            self.get(number)
        letters = self._letters
        return letters.replay(chosen) if action == "replay" else letters.purge(chosen)


def _file(config: Path | None) -> Path:
    path = load_settings(config).store.path
    if path == IN_MEMORY:
        raise ConfigurationError("`[store] path` is :memory:, and only the program can look there")
    with reported(path):
        if not path.exists():
            raise ConfigurationError(
                f"{path}: there is no such file; `[store] path` says where the store is, "
                "which is made when a program with a durable plugin starts"
            )
    return path


def _query(chosen: Criteria) -> dict[str, object]:
    """The criteria as the query of a request."""
    moments = {
        name: None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
        for name, seconds in (("since", chosen.since), ("until", chosen.until))
    }
    numbers = None if chosen.numbers is None else ",".join(map(str, chosen.numbers))
    same = {"plugin": chosen.plugin, "event": chosen.event, "text": chosen.text}
    return {"number": numbers, **same, **moments}
