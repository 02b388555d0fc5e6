"""Routes of a plugin: `@route` and `@websocket_route` in its class.

Owns the two decorators, handler classes, and the collecting of routes from a class.
Never knows the web framework that serves them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import attrs

from .._access._tokens import SCOPES, Scope
from .._events._event import place_of, source_of
from .._faults._errors import DefinitionError, nearest

if TYPE_CHECKING:
    from ._internals import Internals
    from ._plugin import Plugin

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_MARK = "_trivet_routes"
_VARIABLE = re.compile(r"<(?:[^<>:]*:)?(\w+)>")
"""A variable in a path: `<name>`, `<int:name>`, `<int(min=1):name>`."""

P = TypeVar("P", bound="Plugin")
T = TypeVar("T", bound=Callable[..., Any])
Method = TypeVar("Method", bound=Callable[..., Awaitable[None]])


class Handler(Generic[P]):
    """A route with several HTTP methods: one async method for each, named `get`, `post`, ….

    Put the class into the plugin's body, under `@route`.

    >>> from trivet import BackgroundPlugin
    >>> class Shop(BackgroundPlugin):
    ...     @route("/orders/<order_id>")
    ...     class Order(Handler["Shop"]):
    ...         async def get(self, order_id: str) -> dict[str, str]:
    ...             return {"order": order_id, "plugin": self.plugin.name}
    >>> Shop.Order.allowed
    ('GET',)

    Life: one instance is made for each request.
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
    """The path, in the syntax of Quart's rules: `/handlers/<handler_id>/events`."""
    methods: tuple[str, ...]
    """The HTTP methods, in capitals."""
    attribute: str
    """The name, in the plugin's class, of the method or the handler class."""
    is_websocket: bool = False
    """Whether the route is for websockets, and not for requests."""
    scope: Scope | None = "read"
    """The scope that a client's token must have; None for a public route."""

    def place(self, plugin: Plugin) -> str:
        """File, line and name of the author's code, for messages."""
        target = getattr(plugin, self.attribute)
        if isinstance(target, type):
            return source_of(target)
        return f"{place_of(target)} ({target.__qualname__})"

    async def answer(self, plugin: Plugin, method: str, variables: dict[str, Any]) -> Any:
        """Call the author's code for one request, and return its answer for Quart to interpret."""
        target = getattr(plugin, self.attribute)
        if isinstance(target, type):
            verb = method if method in self.methods else "GET"  # `get` answers HEAD
            target = getattr(target(plugin), verb.lower())
        if self.is_websocket:  # It may live as long as the plugin, which does not wait for it.
            return await target(**variables)
        internals: Internals = plugin._trivet  # pyright: ignore[reportPrivateUsage]
        internals.requests += 1
        try:
            return await target(**variables)
        finally:
            internals.request_ended()


def route(
    path: str, *, methods: Iterable[str] | None = None, scope: Scope | None = "read"
) -> Callable[[T], T]:
    """Declare a route of a plugin, on an async method or on a `Handler` class in its body.

    A method returns whatever a view of Quart may: a dict, text, bytes, a `Response`, any of these
    with a status, or an `EventStream`.

    >>> from trivet import BackgroundPlugin
    >>> class Teapot(BackgroundPlugin):
    ...     @route("/teapot/<int:cup>", methods=["GET", "POST"])
    ...     async def pour(self, cup: int) -> tuple[dict[str, int], int]:
    ...         return {"cup": cup}, 418

    Life: called for each request, while the plugin is up; a request to a plugin that is not up gets
    503. It is cancelled when the client has left, and when the time for requests at a stop is over.

    Args:
        path: the path, in the syntax of Quart's rules, such as `/teapot/<int:cup>`.
        methods: the HTTP methods of an async method, `GET` by default. A handler class has the
            methods that it defines.
        scope: the scope that a client's token must have: `"read"`, `"ingest"` or `"admin"`. None
            makes the route public: everybody may ask, from pages of other sites too, so that the
            author looks at `Origin` where it matters.

    Raises:
        DefinitionError: no request can have the path, an HTTP method or the scope is unknown, or
            the target is neither an async method nor a `Handler` class.
    """
    _check_path(path, "route")
    _check_scope(path, "route", scope)

    def mark(target: T) -> T:
        verbs = _verbs(target, path, methods)
        _add_mark(target, path, verbs, is_websocket=False, scope=scope)
        return target

    return mark


def websocket_route(path: str, *, scope: Scope | None = "read") -> Callable[[Method], Method]:
    """Declare a websocket of a plugin, on an async method that runs as long as a connection.

    In the method, `quart.websocket` is the connection: the first `accept`, `send` or `receive`
    accepts it, and `quart.abort` before that refuses it. Returning closes it.

    Life: the method is cancelled when the client has left, when the plugin's lifetime ends, and at
    a stop: one second after `self.stopping` is set, or sooner where requests have less time. The
    client then gets the code 1012 (service restart), and 1011 (internal error) after an exception.

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
        path: the path, as for `route`. Requests may have a route at the same path.
        scope: the scope that a client's token must have, as for `route`.

    Raises:
        DefinitionError: no request can have the path, the scope is unknown, or the target is no
            async method.
    """
    _check_path(path, "websocket_route")
    _check_scope(path, "websocket_route", scope)

    def mark(target: Method) -> Method:
        is_method = inspect.iscoroutinefunction(target)
        if not is_method:
            name: object = getattr(target, "__qualname__", target)
            raise DefinitionError(
                f"@websocket_route({path!r}) is for async methods, not for {name!r}"
            )
        _add_mark(target, path, ("GET",), is_websocket=True, scope=scope)
        return target

    return mark


_OTHER_SYNTAX = (
    (r"\{\w*:path\}|/\*", "a rest of several parts is `<path:name>`"),
    (r"[{}]", "a part that varies is `<name>`, or `<int:name>`"),
    (r"/:\w", "a part that varies is `<name>`, or `<int:name>`"),
    (r"[?#]", "what follows `?` is in `quart.request.args`, and is no part of the path"),
)
"""The syntax of other frameworks in a path, which would never match here, with the right one."""


def _check_path(path: object, decorator: str) -> None:
    if not isinstance(path, str):
        method = getattr(path, "__qualname__", "")
        at = f"{place_of(path)}: {method}: " if inspect.isfunction(path) else ""
        raise DefinitionError(f'{at}write `@{decorator}("/…")`, with the path, not `@{decorator}`')
    if not path.startswith("/"):
        raise DefinitionError(f"@{decorator}({path!r}): a path starts with '/'")
    for pattern, right in _OTHER_SYNTAX:
        if re.search(pattern, _VARIABLE.sub("", path)):
            raise DefinitionError(f"@{decorator}({path!r}): {right}")


def _check_scope(path: str, decorator: str, scope: object) -> None:
    if scope is not None and scope not in SCOPES:
        hint = nearest(str(scope), SCOPES)
        raise DefinitionError(f"@{decorator}({path!r}): no scope is named {scope!r}; {hint}")


def _add_mark(
    target: object,
    path: str,
    methods: tuple[str, ...],
    *,
    is_websocket: bool,
    scope: Scope | None,
) -> None:
    # A class inherits the list of its base: the class must have a list of its own.
    marks = [*vars(target).get(_MARK, ()), (path, methods, is_websocket, scope)]
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
    if isinstance(methods, str):
        raise DefinitionError(f"@route({path!r}): {name}: write `methods=[{methods!r}]`, a list")
    verbs = tuple(str(verb).upper() for verb in (methods or ("GET",)))
    for verb in sorted(set(verbs) - set(METHODS)):
        hint = nearest(verb, METHODS)
        raise DefinitionError(f"@route({path!r}): {name}: {verb} is not an HTTP method; {hint}")
    return verbs


def handler_without_path(plugin: type[Plugin]) -> str | None:
    """The name of a handler class in the plugin's body that has no path; None for none."""
    handlers: dict[str, type[Handler[Any]]] = {
        name: value
        for name, value in vars(plugin).items()
        if isinstance(value, type) and issubclass(value, Handler) and value.allowed
    }
    for name, handler in handlers.items():
        others = [other for other in handlers.values() if other is not handler]
        is_base = any(issubclass(other, handler) for other in others)
        if not (name.startswith("_") or is_base or _MARK in vars(handler)):
            return name
    return None


def fault_of_variables(plugin: type[Plugin], route: Route) -> str | None:
    """The fault of a route whose method does not take the variables of its path."""
    variables = [match[1] for match in _VARIABLE.finditer(route.path)]
    target = getattr(plugin, route.attribute)
    methods = [target]
    if isinstance(target, type):
        methods = [getattr(target, verb.lower()) for verb in route.methods]
    faults = (_fault_of_parameters(method, variables, route.path) for method in methods)
    return next((fault for fault in faults if fault is not None), None)


def _fault_of_parameters(method: Any, variables: list[str], path: str) -> str | None:
    # The parameters of a decorator's wrapper count, and not those of the wrapped method.
    signature = inspect.signature(method, follow_wrapped=False)
    try:
        signature.bind(None, **dict.fromkeys(variables))
    except TypeError:
        right = f"`async def {method.__name__}({', '.join(['self', *variables])})`"
        at = f"{place_of(method)}: {method.__qualname__}"
        return f"{at}: its arguments are the variables of its path, {path}: write {right}"
    return None


def routes_of(plugin: type[Plugin]) -> Iterator[Route]:
    """The routes that the class declares or inherits; an overridden attribute counts once."""
    attributes: dict[str, Any] = {}
    for cls in reversed(plugin.__mro__[:-1]):  # `object` has none.
        attributes |= vars(cls)
    marks = {
        attribute: value.__dict__[_MARK]
        for attribute, value in attributes.items()
        if _MARK in getattr(value, "__dict__", ())
    }
    for attribute in sorted(marks):
        for path, methods, is_websocket, scope in marks[attribute]:
            yield Route(path, methods, attribute, is_websocket, scope)
