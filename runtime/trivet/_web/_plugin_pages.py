"""`GET /-/plugins/{name}/pages/{page}`: a page that a plugin's author has written, as data.

Owns the form of the document, the bounds of each part, and the time that the author's code has.
Never knows how a part is drawn; each text is text, and secrets are masked in it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import TypeVar, cast

import structlog
import trio

from .._faults._advice import explained
from .._faults._containment import one_line, transparent
from .._faults._masking import mask_beginning
from .._loop._tasks import plugin_of_task
from .._plugins._internals import Internals
from .._plugins._pages import Curve, Facts, PluginPage, Table, pages_of
from .._runtime import Runtime
from .._supervision._host import Host
from ._admin import host_named
from ._availability import require_running
from ._context import current_context
from ._crashes import fault_of
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints, encode
from ._problems import ProblemError

LIMIT = 2.0
"""Seconds that the author's code has for a page."""
PARTS, ROWS, COLUMNS, POINTS = 20, 200, 20, 500
"""The most parts of a page, rows of a table or facts, columns of a table, and points of a curve."""
LONGEST_TEXT, LONGEST_CELL = 16 * 1024, 500
"""Characters of a paragraph, and of a value, that are shown."""
LARGEST_NUMBER = 1e15
"""Numbers from here on are texts: a browser would round them."""
LARGEST = 256 * 1024
"""Bytes that all parts of a page have as JSON. The loop is held while they are written."""
_COLLECTIONS = bytes, bytearray, list, tuple, set, frozenset, dict, deque
"""Types whose text takes time for each member, although its beginning alone is shown."""

Piece = TypeVar("Piece")

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def add_plugin_pages(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve the plugins' pages, for an operator with a token for `admin`."""

    async def page(request: EndpointRequest) -> EndpointResponse:
        """A page of one plugin, as its author has written it: its title, and its parts.

        A part is a text, facts, a table or a curve. 500 with `page_failed` tells what the author's
        code has raised, or that it took too long.
        """
        name, _, wanted = request.variable.rpartition("/")
        host = host_named(runtime, name)
        pages = {each.attribute: each for each in pages_of(type(host.plugin))}
        if wanted not in pages:
            raise ProblemError("unknown_page", f"plugin {name!r} has no page {wanted!r}")
        require_running(host)
        current_context().plugin = name

        async def made() -> dict[str, object]:
            """The parts, or the problem that the author's code has."""
            outcome = await _made(runtime, host, pages[wanted])
            if not isinstance(outcome, BaseException):
                return outcome
            runtime.hosting.failures.log(  # The page is asked for every few seconds.
                _log.error,
                "page failed",
                outcome,
                {"plugin": name, "page": wanted},
                plugin=name,
                event=wanted,
                whole={"exc_info": explained(outcome)},
            )
            raise ProblemError("page_failed", one_line(outcome))

        return {"title": pages[wanted].title, **await request.while_connected(made)}, 200

    fast_path.add("GET", "/-/plugins/<name>/pages/<page>", "admin", page)


async def _made(
    runtime: Runtime, host: Host, page: PluginPage
) -> dict[str, object] | BaseException:
    """The parts of a page, or the fault of its author's code; the plugin's lifetime waits for them.

    A task makes them whose steps are all the plugin's. The task of a connection goes on with other
    requests, and whose a step was is asked when it is over.
    """
    internals: Internals = host.plugin._trivet  # pyright: ignore[reportPrivateUsage]
    outcomes: list[dict[str, object] | BaseException] = []

    async def make() -> None:
        plugin_of_task.set(host.name)  # Its time is charged to the plugin.
        try:
            outcomes.append(await _in_time(host, page))
        except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
            outcomes.append(fault_of(error, runtime))

    internals.requests += 1
    try:
        async with transparent(trio.open_nursery()) as nursery:
            nursery.start_soon(make, name=f"page {page.attribute} of {host.name}")
    finally:
        internals.request_ended()
    return outcomes[0]


async def _in_time(host: Host, page: PluginPage) -> dict[str, object]:
    """The parts of a page, or a TimeoutError."""
    with trio.move_on_after(LIMIT):
        return describe(await getattr(host.plugin, page.attribute)())
    raise TimeoutError(f"{page.attribute} took longer than {LIMIT:g} s")


class _Space:
    """The bytes that are left for the parts of one page."""

    def __init__(self) -> None:
        self._left = LARGEST

    def fitting(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The pieces up to the first one that does not fit; after it, nothing fits."""
        for piece in pieces:
            if not self.has(piece):
                return
            yield piece

    def has(self, piece: object) -> bool:
        """Whether the piece fits; it takes its bytes."""
        self._left -= len(encode(piece))
        return self._left >= 0


def describe(answer: object) -> dict[str, object]:
    """The document of what a page's method has returned; `not_shown` counts what is left out.

    >>> describe([Facts({"cups": 4})])["parts"]
    [{'kind': 'facts', 'facts': [['cups', 4]], 'not_shown': 0}]

    Raises:
        TypeError: it is no part, and no list or tuple of parts.
        ValueError: a part cannot be drawn.
    """
    given = cast("Sequence[object]", answer if isinstance(answer, (list, tuple)) else [answer])
    space = _Space()
    parts: list[dict[str, object]] = []
    for each in islice(given, PARTS):
        part = _part(each, space)
        if part is None:
            break
        parts.append(part)
    return {"parts": parts, "not_shown": len(given) - len(parts)}


def _part(part: object, space: _Space) -> dict[str, object] | None:
    """The document of a part; None if there is no space for it."""
    found: dict[str, object]
    match part:
        case str():
            found = {"kind": "text", "text": _text(part, LONGEST_TEXT)}
        case Facts():
            facts = ([_text(name), _cell(each)] for name, each in part.values.items())
            return _series({"kind": "facts"}, "facts", facts, len(part.values), space)
        case Table():
            head: dict[str, object] = {"kind": "table", "columns": _columns(part)}
            return _series(head, "rows", _rows(part), len(part.rows), space)
        case Curve():
            values, left_out = _points(part.values), max(0, len(part.values) - POINTS)
            label = _text(part.label)
            found = {"kind": "curve", "label": label, "values": values, "not_shown": left_out}
        case _:
            kind = type(part).__name__
            raise TypeError(f"a page has texts, Facts, Tables and Curves, and no {kind}")
    return found if space.has(found) else None


def _series(
    head: dict[str, object], name: str, pieces: Iterator[object], count: int, space: _Space
) -> dict[str, object] | None:
    """The document of a part with as many of its `count` pieces as there is space for."""
    if not space.has({**head, name: [], "not_shown": count}):
        return None
    shown = list(space.fitting(islice(pieces, ROWS)))
    return {**head, name: shown, "not_shown": count - len(shown)}


def _columns(table: Table) -> list[str]:
    if len(table.columns) > COLUMNS:
        raise ValueError(f"a table has at most {COLUMNS} columns, and not {len(table.columns)}")
    return [_text(each) for each in table.columns]


def _rows(table: Table) -> Iterator[list[object]]:
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(f"a row has {len(row)} values, below {len(table.columns)} columns")
        yield [_cell(each) for each in row]


def _points(values: Sequence[float]) -> list[float]:
    points = [float(each) for each in values[-POINTS:]]
    if not all(math.isfinite(each) and each >= 0 for each in points):
        raise ValueError("a curve's values are finite, and none is negative")
    return points


def _cell(value: object) -> object:
    """A value as JSON has it: a number as it is, anything else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        # JSON is not written for a class derived from these.
        number = int(value) if isinstance(value, int) else float(value)
        return number if abs(number) < LARGEST_NUMBER else _text(number)
    return _text(value)


def _text(value: object, longest: int = LONGEST_CELL) -> str:
    length = _length(value)
    if length > longest:
        return f"{type(value).__name__[:longest]}, not shown: its length is {length}"
    text = mask_beginning(str(value), longest)
    return text.encode("utf-8", "backslashreplace").decode()


def _length(value: object) -> int:
    """The length of a collection; 0 for anything else."""
    return len(cast("Sized", value)) if isinstance(value, _COLLECTIONS) else 0
