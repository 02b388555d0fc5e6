"""The making of a plugin's instance, and the attributes that Trivet sets on it.

Owns the order (Trivet's attributes, the settings, then the author's `__init__`), and the part of a
plugin that differs between Trio and asyncio.
Never knows when an instance is made, nor when it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from .._events._delivery_settings import DeliveryPolicy
from .._events._event_class import qualified_name
from .._events._filters import Matches, compile_filter
from .._faults._errors import DefinitionError
from .._inbox._inbox import Inbox
from ._event_plugins import EventPlugin
from ._hooks import check_instance
from ._internals import Internals
from ._plugin import App, Plugin, PluginT
from ._resources import Resources


def create_plugin(
    name: str,
    cls: type[PluginT],
    app: App,
    values: Mapping[str, Any],
    inbox: Inbox[Any] | None,
    delivery: DeliveryPolicy,
) -> PluginT:
    """Make an instance: set Trivet's attributes, then the settings, then call `__init__`.

    Args:
        name: the name under which the instance runs.
        cls: the author's class.
        app: the program.
        values: the author's settings, as keywords.
        inbox: the inbox of an event plugin; None for any other.
        delivery: the decisions about deliveries to the plugin.

    Raises:
        DefinitionError: the author's code has set an attribute of Trivet's.
    """
    plugin = cls.__new__(cls)
    if name != cls.name:
        vars(plugin)["name"] = name
    app = plugin.app = backend_of(plugin).app_for(plugin, app)
    plugin.log = structlog.get_logger(plugin=name)
    plugin._trivet = Internals(policy=delivery)  # pyright: ignore[reportPrivateUsage]
    if inbox is not None:
        _attach(plugin, inbox)
    attrs_init: Callable[..., None] = getattr(plugin, "__attrs_init__")  # noqa: B009
    attrs_init(**values)
    plugin.__init__(app)  # type: ignore[misc]
    check_instance(plugin)
    if inbox is not None and getattr(plugin, "inbox", inbox) is not inbox:
        raise DefinitionError(
            f"{qualified_name(cls)}: `self.inbox` is where the plugin's events arrive; "
            "choose another name"
        )
    return plugin


def _attach(plugin: Plugin, inbox: Inbox[Any]) -> None:
    if isinstance(plugin, EventPlugin):
        plugin.inbox = inbox


def internals_of(plugin: Plugin) -> Internals:
    """Trivet's own side of the plugin."""
    return plugin._trivet  # pyright: ignore[reportPrivateUsage] - other rooms come through here


class TrioBackend:
    """The part of a plugin that differs between Trio and asyncio; here for Trio."""

    def app_for(self, plugin: Any, app: App) -> App:
        """The program as the plugin's code sees it."""
        return app

    async def initialize(self, plugin: Any) -> None:
        """Call `initialize`, and check the attributes that it has set."""
        await plugin.initialize()
        check_instance(plugin)


_TRIO = TrioBackend()
_backends: dict[type, TrioBackend] = {}


def register_backend(cls: type, backend: TrioBackend) -> None:
    """Use `backend` for the plugins that derive from `cls`."""
    # `functools.singledispatch` would take 25 µs for each new class.
    _backends[cls] = backend


def backend_of(plugin: Plugin) -> TrioBackend:
    """The backend of the plugin's coroutines."""
    return next((_backends[base] for base in type(plugin).__mro__ if base in _backends), _TRIO)


def filter_of(plugin: Plugin, policy: DeliveryPolicy) -> Matches | None:
    """The operator's `filter` and the author's `wants`, in one; None to deliver all events."""
    asked: list[Matches] = []
    if policy.filter is not None:
        asked.append(compile_filter(policy.filter))
    wants: Matches | None = getattr(plugin, "wants", None)
    if (
        wants is not None
        and getattr(type(plugin), "wants", None) is not EventPlugin.__dict__["wants"]
    ):
        asked.append(wants)
    if not asked:
        return None
    return lambda event: all(matches(event) for matches in asked)


@contextmanager
def resources_of(plugin: Plugin, resources: Resources) -> Generator[None]:
    """Let `plugin.enter` use `resources` within this block."""
    internals = internals_of(plugin)
    internals.resources = resources
    try:
        yield
    finally:
        internals.resources = None
