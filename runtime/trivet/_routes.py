"""How a plugin declares a route: `@route` on a method, or on a handler class in its body.

A websocket is declared by `@websocket_route` on a method.

Owns the declaration and the collecting of them from a class.
Never knows the web framework that serves them.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import attrs

from ._errors import DefinitionError

if TYPE_CHECKING:
    from ._plugin import Plugin

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MARK = "__trivet_routes__"

P = TypeVar("P", bound="Plugin")
T = TypeVar("T", bound=Callable[..., Any])
Method = TypeVar("Method", bound=Callable[..., Awaitable[None]])


class Handler(Generic[P]):
    """A resource of a plugin: one async method per HTTP method, named `get`, `post`, ….

    One instance is made for each request. Put the class into the plugin's body, under `@route`.
    """

    allowed: ClassVar[tuple[str, ...]] = ()
    """The HTTP methods that the class has."""

    def __init__(self, plugin: P) -> None:
        self.plugin = plugin
        """The plugin that declares the route."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.allowed = tuple(name for name in METHODS if hasattr(cls, name.lower()))
        for verb in map(str.lower, cls.allowed):
            if not inspect.iscoroutinefunction(getattr(cls, verb)):
                raise DefinitionError(f"{cls.__qualname__}.{verb} is not an async method")


@attrs.frozen
class Route:
    """One route of one plugin class."""

    path: str
    """In the syntax of Quart's rules: `/handlers/<handler_id>/events`."""
    methods: tuple[str, ...]
    attribute: str
    """The name, in the plugin's class, of the method or the handler class."""
    is_websocket: bool = False
    """Whether it is for websockets; else it is for requests."""

    async def answer(self, plugin: Plugin, method: str, variables: dict[str, Any]) -> Any:
        """Call the author's code for one request; what it returns is Quart's to interpret."""
        target = getattr(plugin, self.attribute)
        if isinstance(target, type):
            verb = method if method in self.methods else "GET"  # HEAD is answered by get
            target = getattr(target(plugin), verb.lower())
        return await target(**variables)


def route(path: str, *, methods: Iterable[str] | None = None) -> Callable[[T], T]:
    """Declare a route of a plugin, on an async method or on a `Handler` class in its body.

    Args:
        path: where it is, in the syntax of Quart's rules, such as `/teapot/<int:cup>`.
        methods: of a method: its HTTP methods, `GET` by default. A handler class has those that
            it defines.

    Raises:
        DefinitionError: for a path without a leading slash, an unknown HTTP method, or a target
            that is neither.
    """

    def mark(target: T) -> T:
        _require_slash(path, "route")
        _add_mark(target, path, _verbs(target, path, methods), is_websocket=False)
        return target

    return mark


def websocket_route(path: str) -> Callable[[Method], Method]:
    """Declare a websocket of a plugin, on an async method that lives as long as a connection does.

    Within it `quart.websocket` is the connection: the first `accept`, `send` or `receive` accepts
    it, `quart.abort` before that refuses it. To return closes it. The method is cancelled when the
    client has left, when the plugin is not up any more, and at the stop: a second after
    `self.stopping` is set, or sooner if requests have less time. The client is then told 1012
    (service restart), and 1011 (internal error) when the method has raised.

    >>> import trio
    >>> from quart import websocket
    >>> from trivet import BackgroundPlugin
    >>> class Clock(BackgroundPlugin):
    ...     @websocket_route("/clock/<float:step>")
    ...     async def ticks(self, step: float) -> None:
    ...         await websocket.accept()
    ...         while not self.stopping.is_set():
    ...             await websocket.send("tick")
    ...             await trio.sleep(step)

    Args:
        path: where it is, as for `route`. Requests may have a route at the same path.

    Raises:
        DefinitionError: for a path without a leading slash, or a target that is no async method.
    """

    def mark(target: Method) -> Method:
        _require_slash(path, "websocket_route")
        is_method = inspect.iscoroutinefunction(target)
        if not is_method:
            name: object = getattr(target, "__qualname__", target)
            raise DefinitionError(
                f"@websocket_route({path!r}) is for async methods, not for {name!r}"
            )
        _add_mark(target, path, ("GET",), is_websocket=True)
        return target

    return mark


def _require_slash(path: str, decorator: str) -> None:
    if not path.startswith("/"):
        raise DefinitionError(f"@{decorator}({path!r}): a path starts with '/'")


def _add_mark(target: object, path: str, methods: tuple[str, ...], *, is_websocket: bool) -> None:
    # A class inherits the mark's list from its base: what is added must be its own.
    marks = [*vars(target).get(_MARK, ()), (path, methods, is_websocket)]
    setattr(target, _MARK, marks)


def _verbs(target: object, path: str, methods: Iterable[str] | None) -> tuple[str, ...]:
    name: object = getattr(target, "__qualname__", target)
    is_method = inspect.iscoroutinefunction(target)
    if isinstance(target, type) and issubclass(target, Handler):
        if methods is not None:
            raise DefinitionError(f"{name}: a handler class names its methods")
        if not target.allowed:
            raise DefinitionError(f"{name} has no method such as get or post")
        return target.allowed
    if not is_method:
        raise DefinitionError(
            f"@route({path!r}) is for async methods and subclasses of Handler, not for {name!r}"
        )
    verbs = tuple(verb.upper() for verb in (methods or ("GET",)))
    unknown = sorted(set(verbs) - set(METHODS))
    if unknown:
        raise DefinitionError(f"@route({path!r}): {unknown[0]} is not an HTTP method")
    return verbs


def routes_of(plugin: type[Plugin]) -> Iterator[Route]:
    """Every route that the class declares or inherits, an overridden attribute's once."""
    attributes: dict[str, Any] = {}
    for cls in reversed(plugin.__mro__[:-1]):  # `object` has none.
        attributes |= vars(cls)
    marks = {
        attribute: value.__dict__[_MARK]
        for attribute, value in attributes.items()
        if _MARK in getattr(value, "__dict__", ())
    }
    for attribute in sorted(marks):
        for path, methods, is_websocket in marks[attribute]:
            yield Route(path, methods, attribute, is_websocket)
