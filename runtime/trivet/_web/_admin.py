"""The requests of an operator about plugins, under `/-/plugins`: looked at, and given orders.

Owns the names of the orders, and the account of an action that is done.
Never knows how an order is carried out: that is the supervisor's. The doors have checked the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import attrs
import trio

from .._events._operator_action import OperatorActionEvent
from .._faults._errors import OrderRefusedError, PluginNotActiveError
from .._log._levels import NUMBERS, Level, levels_in_use
from .._log._recent import recent
from .._plugins._status import Status
from .._runtime import Runtime
from .._supervision import _orders
from .._supervision._host import Host
from ._context import current_context
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._plugin_details import describe_all, describe_slowly, summarize
from ._problems import ProblemError

one_thread = trio.CapacityLimiter(1)
"""A thread for operators: plugins may have taken all of Trio's."""


def add_admin(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `/-/plugins` and what is below, for an operator with a token for `admin`."""
    _add_views(fast_path, runtime)
    _add_orders(fast_path, runtime)


def _add_views(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve what an operator looks at."""

    async def plugins(_: EndpointRequest) -> EndpointResponse:
        """Every plugin's status, since when, its restarts, and its last error in one line."""
        return {"plugins": summarize(runtime)}, 200

    async def plugin(request: EndpointRequest) -> EndpointResponse:
        """One plugin: its account, its code, its last error with the traceback, its settings."""
        host = host_of(runtime, request)
        work = partial(describe_slowly, runtime, host)
        more = await trio.to_thread.run_sync(work, limiter=one_thread)
        return {**describe_all(runtime)[host.name], **more}, 200

    async def log(request: EndpointRequest) -> EndpointResponse:
        """The last lines of one plugin's log, the earliest first, as they were written."""
        lines = recent.of(host_of(runtime, request).name)
        return {"lines": [attrs.asdict(line) for line in lines]}, 200

    fast_path.add("GET", "/-/plugins", "admin", plugins)
    fast_path.add("GET", "/-/plugins/<name>", "admin", plugin)
    fast_path.add("GET", "/-/plugins/<name>/log", "admin", log)


def _add_orders(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve what an operator changes."""

    async def restart(request: EndpointRequest) -> EndpointResponse:
        """202: a new lifetime has begun; `GET /-/plugins/{name}` shows its status."""
        return _obey(runtime, request, "restart", _restart, _orders.heading_for), 202

    async def disable(request: EndpointRequest) -> EndpointResponse:
        """202: the plugin drains and stops, within the limits of a stop, until it is enabled.

        Plugins that need it end before it, and wait. An inbox in memory refuses further events;
        those of a durable one wait in the store.
        """
        limits = runtime.program.settings.shutdown
        order = partial(_orders.disable, limits=limits)
        return _obey(runtime, request, "disable", order, _orders.heading_for), 202

    async def enable(request: EndpointRequest) -> EndpointResponse:
        """202: the plugin starts, if it was disabled."""
        return _obey(runtime, request, "enable", _orders.enable, _orders.heading_for), 202

    async def pause(request: EndpointRequest) -> EndpointResponse:
        """200: no event is handed to the plugin until delivery is resumed; events come in."""
        return _obey(runtime, request, "pause", _orders.pause), 200

    async def resume(request: EndpointRequest) -> EndpointResponse:
        """200: events are handed to the plugin again."""
        return _obey(runtime, request, "resume", _orders.resume), 200

    async def log_level(request: EndpointRequest) -> EndpointResponse:
        """200: the plugin's lines are logged from this level on; `default` is the program's.

        These are the lines of its logger, and Trivet's own lines about it.
        """
        host, asked = host_of(runtime, request), request.query("level")
        levels = levels_in_use()
        if levels is None:
            raise ProblemError("order_refused", "the code around Trivet has configured the log")
        if asked is None or asked not in (*NUMBERS, "default"):
            named = ", ".join(NUMBERS)
            raise ProblemError("invalid_query", f"`level` is one of {named}, or default")
        level = None if asked == "default" else cast("Level", asked)
        levels.set(host.name, level)
        acted(runtime, request, f"log level {asked}", host.name)
        return {"plugin": host.name, "level": levels.of(host.name)}, 200

    fast_path.add("POST", "/-/plugins/<name>/restart", "admin", restart)
    fast_path.add("POST", "/-/plugins/<name>/disable", "admin", disable)
    fast_path.add("POST", "/-/plugins/<name>/enable", "admin", enable)
    fast_path.add("POST", "/-/plugins/<name>/pause", "admin", pause)
    fast_path.add("POST", "/-/plugins/<name>/resume", "admin", resume)
    fast_path.add("POST", "/-/plugins/<name>/log-level", "admin", log_level)


def host_of(runtime: Runtime, request: EndpointRequest) -> Host:
    """The host of the plugin that the path of a request names."""
    return host_named(runtime, request.variable)


def host_named(runtime: Runtime, plugin: str) -> Host:
    """The host of a plugin, or the problem of a request that names none."""
    try:
        return runtime.host(plugin)
    except PluginNotActiveError as error:
        raise ProblemError("unknown_plugin", str(error)) from error


def acted(
    runtime: Runtime,
    request: EndpointRequest,
    action: str,
    plugin: str | None = None,
    settings: Iterable[str] = (),
) -> None:
    """Tell the action of a request, which is done; its reason is in the query."""
    token, reason = current_context().caller.token, request.query("reason")
    runtime.operator_acted(
        OperatorActionEvent(
            action=action,
            plugin=plugin,
            token=None if token is None else token.name,
            settings=tuple(settings),
            reason=reason or None,
        )
    )


def _restart(host: Host) -> bool:
    _orders.restart(host)
    return True


def _status(host: Host) -> Status:
    return host.status


def _obey(
    runtime: Runtime,
    request: EndpointRequest,
    action: str,
    order: Callable[[Host], bool],
    status_after: Callable[[Host], Status] = _status,
) -> dict[str, object]:
    """Give an order to the plugin that a request names; what changes nothing is no action."""
    host = host_of(runtime, request)
    try:
        has_changed = order(host)
    except OrderRefusedError as error:
        raise ProblemError("order_refused", str(error)) from error
    if has_changed:
        acted(runtime, request, action, host.name)
    status = status_after(host) if has_changed else host.status
    return {"plugin": host.name, "status": status, "paused": host.is_paused}
