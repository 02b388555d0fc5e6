"""`GET /-/plugins/{name}/pages/{page}`: a page that a plugin's author has written, as data.

Owns the form of the document, the bounds of each part, and the time that the author's code has.
Never knows how a part is drawn; each text is text, and secrets are masked in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import cast

import structlog
import trio

from .._faults._advice import explained
from .._faults._containment import one_line
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
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError

LIMIT = 2.0
"""Seconds that the author's code has for a page."""
PARTS, ROWS, COLUMNS, POINTS = 20, 200, 20, 500
"""The most parts of a page, rows of a table or facts, columns of a table, and points of a curve."""
LONGEST_TEXT, LONGEST_CELL = 16 * 1024, 500
"""Characters of a paragraph, and of a value, that are shown."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def add_plugin_pages(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve the plugins' pages, for an operator with a token for `admin`."""
    told: dict[tuple[str, str], str] = {}

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

        async def made() -> object:
            """The parts, or the problem that the author's code has."""
            try:
                parts = await _made(host, pages[wanted])
            except BaseException as error:  # noqa: ASYNC103 - a cancellation goes on
                fault = fault_of(error, runtime)
            else:
                told.pop((name, wanted), None)
                return parts
            said = one_line(fault)
            if told.get((name, wanted)) != said:  # The page is asked for every few seconds.
                told[name, wanted] = said
                _log.error("page failed", plugin=name, page=wanted, exc_info=explained(fault))
            raise ProblemError("page_failed", said)

        parts = await request.while_connected(made)
        return {"title": pages[wanted].title, "parts": parts}, 200

    fast_path.add("GET", "/-/plugins/<name>/pages/<page>", "admin", page)


async def _made(host: Host, page: PluginPage) -> list[dict[str, object]]:
    """The parts of a page, which the plugin's lifetime waits for, as for a route."""
    internals: Internals = host.plugin._trivet  # pyright: ignore[reportPrivateUsage]
    before = plugin_of_task.set(host.name)  # Its time is charged to the plugin.
    internals.requests += 1
    try:
        with trio.move_on_after(LIMIT):
            return describe_parts(await getattr(host.plugin, page.attribute)())
        raise TimeoutError(f"{page.attribute} took longer than {LIMIT:g} s")
    finally:
        internals.request_ended()
        plugin_of_task.reset(before)


def describe_parts(answer: object) -> list[dict[str, object]]:
    """The document of what a page's method has returned.

    >>> describe_parts([Facts({"cups": 4}), "Tea is ready."])
    [{'kind': 'facts', 'facts': [['cups', 4]]}, {'kind': 'text', 'text': 'Tea is ready.'}]

    Raises:
        TypeError: it is no part, and no list or tuple of parts.
        ValueError: a part cannot be drawn.
    """
    if not isinstance(answer, (list, tuple)):
        return [_part(answer)]
    return [_part(each) for each in islice(cast("Iterable[object]", answer), PARTS)]


def _part(part: object) -> dict[str, object]:
    match part:
        case str():
            return {"kind": "text", "text": _text(part, LONGEST_TEXT)}
        case Facts():
            facts = [[_text(name), _cell(each)] for name, each in islice(part.values.items(), ROWS)]
            return {"kind": "facts", "facts": facts}
        case Table():
            return {"kind": "table", **_table(part)}
        case Curve():
            return {"kind": "curve", "label": _text(part.label), "values": _points(part.values)}
        case _:
            kind = type(part).__name__
            raise TypeError(f"a page has texts, Facts, Tables and Curves, and no {kind}")


def _table(table: Table) -> dict[str, object]:
    columns = [_text(each) for each in table.columns]
    if len(columns) > COLUMNS:
        raise ValueError(f"a table has at most {COLUMNS} columns, and not {len(columns)}")
    rows = [[_cell(each) for each in row] for row in islice(table.rows, ROWS)]
    wrong = next((len(row) for row in rows if len(row) != len(columns)), None)
    if wrong is not None:
        raise ValueError(f"a row has {wrong} values, below {len(columns)} columns")
    return {"columns": columns, "rows": rows, "not_shown": len(table.rows) - len(rows)}


def _points(values: Sequence[float]) -> list[float]:
    points = [float(each) for each in values[-POINTS:]]
    if not all(math.isfinite(each) and each >= 0 for each in points):
        raise ValueError("a curve's values are finite, and none is negative")
    return points


def _cell(value: object) -> object:
    """A value as JSON has it: a number as it is, anything else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and abs(value) < 1e15:
        return value
    return _text(value)


def _text(value: object, longest: int = LONGEST_CELL) -> str:
    text = mask_beginning(str(value), longest)
    return text.encode("utf-8", "backslashreplace").decode()
