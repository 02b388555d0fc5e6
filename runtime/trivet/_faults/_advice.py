"""Advice for an author whose code has raised an exception.

Owns the likely causes, and a remedy for each.
Never knows where the exception is shown: the advice is a note of the exception, which Python shows.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterator
from contextlib import suppress

from ._containment import members, summary
from ._frames import Authors, Line, lines_of, without_trivet
from ._masking import mask

ON_ASYNCIO = (
    "this is asyncio's, and the plugin runs on Trio: use what Trio has instead, such as "
    "trio.sleep or httpx, or derive the class from AsyncioPlugin, too"
)
ON_TRIO = (
    "this is Trio's, and is called from outside of it: in a thread use trio.from_thread.run, in an "
    "AsyncioPlugin self.run_on_trio"
)
RUNS_ALREADY = "an asyncio loop runs here already: `await` the coroutine instead"
NO_AWAIT = "an `await` is missing before the call whose result is used here"
FORGOTTEN = "an `await` is missing before this call"
NOT_ASYNC = "what is called here is not async: take its `await` away"

_AWAY = (ConnectionError, TimeoutError, socket.gaierror)
"""The errors of a server that is not there yet."""
_BY_TEXT = {
    "no running event loop": ON_ASYNCIO,
    "There is no current event loop": ON_ASYNCIO,
    "unrecognized yield message": ON_ASYNCIO,
    "cannot be called from a running event loop": RUNS_ALREADY,
    "must be called from async context": ON_TRIO,
    "'coroutine' object": NO_AWAIT,
    "can't be used in 'await' expression": NOT_ASYNC,
}
"""Advice by a part of the error's text: Python, asyncio and Trio raise the commonest classes."""


def explained(error: BaseException) -> BaseException:
    """The error, with a note about its likely cause, and without Trivet's lines at the top."""
    for note in _notes(error):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    return without_trivet(error)


def in_words(error: BaseException, home: str, said: str | None = None) -> str:
    """The error for a reader who does not see its traceback: the place, and the advice.

    Args:
        error: the error.
        home: the module of the plugin's code.
        said: the error in one line, if there is a better one than its own.
    """
    lines, authors = _lines(error), Authors(home)
    at = f"\n  at {authors.place(lines)}, in {authors.function(lines)}" if lines else ""
    notes = _notes(error)
    if lines and any(isinstance(cause, _AWAY) for cause in _causes(error)):
        notes.append('`on_start_failure = "retry"`, of its supervision, has the start tried again')
    return mask("".join([said or summary(error), at, *(f"\n  {note}" for note in notes)]))


def where_and_why(error: BaseException) -> dict[str, str]:
    """Values for a line of the log that has the error without a traceback."""
    lines = _lines(error)
    facts = {"at": Authors().place(lines), "hint": "; ".join(_notes(error))}
    return {key: fact for key, fact in facts.items() if fact}


def _lines(error: BaseException) -> list[Line]:
    """The lines of the error's traceback; of a group's, the lines of its first member's."""
    return lines_of(next(members(error))) or lines_of(error)


def _notes(error: BaseException) -> list[str]:
    advices = map(_advice, _causes(error))
    return list(dict.fromkeys(advice for advice in advices if advice is not None))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, or the members of a group, and the causes of each."""
    for member in members(error):
        cause: BaseException | None = member
        seen: list[BaseException] = []
        while cause is not None and not any(cause is other for other in seen):
            seen.append(cause)
            yield cause
            cause = cause.__cause__ or cause.__context__


def _advice(error: BaseException) -> str | None:
    if isinstance(error, AttributeError) and inspect.iscoroutine(error.obj):
        return NO_AWAIT
    if isinstance(error, AttributeError) and hasattr(error.obj, "_trivet"):
        return f"for a setting write an annotated field, `{error.name}: …`, in the class"
    if isinstance(error, KeyError) and _is_of_the_environment(error):
        return f"the environment has no variable {error.args[0]}; a setting is safer to ask for"
    if isinstance(error, (RuntimeError, TypeError, AttributeError)):
        text = ""
        with suppress(BaseException):  # An author's own class may not be printable.
            text = str(error)
        return next((advice for said, advice in _BY_TEXT.items() if said in text), None)
    return None


def _is_of_the_environment(error: KeyError) -> bool:
    lines = lines_of(error)
    return bool(lines) and lines[-1][0].f_globals.get("__name__") == "os"
