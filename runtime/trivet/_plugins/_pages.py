"""A plugin's own pages: `@page` on a method in its class, and the parts that such a method returns.

Owns the decorator, the parts, and the collecting of pages from a class.
Never knows how a page looks, nor who sees it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from .._events._event import place_of
from .._faults._errors import DefinitionError

Cell = str | int | float | bool | None
"""A value in a part. Text is shown as it is: it is no markup."""
_MARK = "_trivet_page"
LONGEST_TITLE = 60
"""Characters of a title."""


@attrs.frozen
class Facts:
    """A part of a page: names, each with its value.

    >>> Facts({"cups": 3, "tea": "green"}).values["cups"]
    3
    """

    values: Mapping[str, Cell]
    """The values by their names, in order."""


@attrs.frozen
class Table:
    """A part of a page: rows below the names of their columns; the first 200 are shown.

    >>> Table(["tea", "cups"], [["green", 3], ["black", 1]]).columns
    ['tea', 'cups']
    """

    columns: Sequence[str]
    """The names."""
    rows: Sequence[Sequence[Cell]]
    """The rows, each with a value for each column."""


@attrs.frozen
class Curve:
    """A part of a page: values over time; the last 500 are drawn.

    >>> Curve("cups per minute", [0, 2, 3]).label
    'cups per minute'
    """

    label: str
    """The name of the values."""
    values: Sequence[float]
    """The values, the earliest first; none is negative."""


Part = str | Facts | Table | Curve
"""A part of a page; a text is a paragraph."""
PageMethod = TypeVar("PageMethod", bound=Callable[[Any], Awaitable[Part | Sequence[Part]]])


@attrs.frozen
class PluginPage:
    """One page of a plugin class."""

    attribute: str
    """The name of the method, by which the page is asked for."""
    title: str
    """The title."""


def page(title: str) -> Callable[[PageMethod], PageMethod]:
    """Declare a card, and a page of its own, for the operators of a plugin; on an async method.

    The method returns data, and no markup: a text, `Facts`, a `Table`, a `Curve`, or several of
    these.

    >>> from trivet import BackgroundPlugin, Facts, Table, page
    >>> class Teapot(BackgroundPlugin):
    ...     @page("Teas")
    ...     async def teas(self) -> list[Facts | Table]:
    ...         return [Facts({"cups": 4}), Table(["tea", "cups"], [["green", 3], ["black", 1]])]

    Life: called every few seconds while an operator looks at the plugin, and the plugin is up; it
    is cancelled after two seconds. What it raises is told on the card.

    Args:
        title: the title, of at most 60 characters.

    Raises:
        DefinitionError: the title is none, or the target is no async method without arguments.
    """
    if not _is_title(title):
        raise DefinitionError(f'write `@page("Title")`, with at most {LONGEST_TITLE} characters')

    def mark(target: PageMethod) -> PageMethod:
        name: object = getattr(target, "__qualname__", target)
        is_method = inspect.iscoroutinefunction(target)
        if not is_method:
            raise DefinitionError(f"@page({title!r}) is for async methods, not for {name!r}")
        try:
            inspect.signature(target, follow_wrapped=False).bind(None)
        except TypeError:
            right = f"`async def {target.__name__}(self)`"
            raise DefinitionError(f"{place_of(target)}: {name}: write {right}") from None
        setattr(target, _MARK, title)
        return target

    return mark


def _is_title(title: object) -> bool:
    return isinstance(title, str) and bool(title.strip()) and len(title) <= LONGEST_TITLE


def pages_of(plugin: type) -> Iterator[PluginPage]:
    """The pages that the class declares or inherits, in the order of its body."""
    attributes: dict[str, Any] = {}
    for cls in reversed(plugin.__mro__[:-1]):  # `object` has none.
        attributes |= vars(cls)
    for name, value in attributes.items():
        title = getattr(value, "__dict__", {}).get(_MARK)
        if title is not None:
            yield PluginPage(name, title)
