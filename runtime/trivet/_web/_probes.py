"""The probes of an orchestrator, and the status of each plugin for an operator.

Owns what counts as ready.
Never knows, and never calls, a plugin's code: it reads the hosts' accounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .._faults._containment import members
from .._log import _writer as _log_writer
from .._plugins._routes import Route, routes_of
from .._plugins._status import Status
from .._runtime import Runtime
from .._supervision._host import Host
from ._doors import Doors
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError, stopping

if TYPE_CHECKING:
    from .._store._store import Store


_FULL = "make the plugins faster, purge dead letters, or raise [store] max_bytes"


def add_probes(fast_path: Endpoints, runtime: Runtime, doors: Doors) -> None:
    """Serve `/livez`, `/startupz` and `/readyz`."""

    async def alive(_: EndpointRequest) -> EndpointResponse:
        """200 as long as anything answers."""
        return {"status": "alive"}, 200

    async def started(_: EndpointRequest) -> EndpointResponse:
        """200 when the start is over: nothing listens before that.

        A plugin whose start is tried again does not hold this: an orchestrator would end a service
        that works without it.
        """
        return {"status": "started"}, 200

    async def ready(request: EndpointRequest) -> EndpointResponse:
        """200 while requests are welcome, 503 otherwise; with `?verbose` all that is looked at."""
        if runtime.stopping.is_set():
            raise stopping()
        if request.query("verbose") is None:
            return readiness(runtime), 200
        doors.admit("/readyz", "read")
        checks: dict[str, object] = {"checks": checks_of(runtime)}
        try:
            return readiness(runtime) | checks, 200
        except ProblemError as problem:
            raise ProblemError(problem.error_code, problem.detail, problem.facts | checks) from None

    fast_path.add("GET", "/livez", None, alive)
    fast_path.add("GET", "/startupz", None, started)
    fast_path.add("GET", "/readyz", None, ready)


def add_plugin_status(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `/plugins`."""

    async def plugins(_: EndpointRequest) -> EndpointResponse:
        """Every plugin's status, the store's, the log's, and the events without a subscriber."""
        return {
            "plugins": describe_plugins(runtime),
            "store": describe_store(runtime),
            "log": describe_log(),
            "unrouted": dict(runtime.unrouted),
        }, 200

    fast_path.add("GET", "/plugins", "read", plugins)


def readiness(runtime: Runtime) -> dict[str, object]:
    """The status of the service: ready, or degraded, which is ready while some plugin is not well.

    Raises:
        ProblemError: a critical plugin does not run, or says that it is degraded; or no event can
            be stored for the durable plugins.
    """
    hosts = runtime.hosts
    missing = {name: host for name, host in hosts.items() if host.status is not Status.RUNNING}
    paused = [name for name, host in hosts.items() if host.is_paused]
    statuses = {name: host.status for name, host in missing.items()}
    reasons = [
        f"critical plugin {name!r} is {host.status}"
        for name, host in missing.items()
        if host.critical
    ]
    facts: dict[str, object] = {"plugins": statuses}
    if paused:
        facts["paused"] = paused
    store = runtime.store
    if store is not None and (store.trouble is not None or store.is_near_limit):
        facts["store"] = _state_of(store)
        if store.trouble is not None:
            reasons.append(f"the store fails: {store.trouble.reason}")
    if _log_writer.trouble() is not None:
        facts["log"] = describe_log()
    if reasons:
        raise ProblemError("not_ready", "; ".join(reasons), facts)
    degraded = missing or facts.keys() - {"plugins"}
    return {"status": "degraded" if degraded else "ready", **facts}


def checks_of(runtime: Runtime) -> list[dict[str, object]]:
    """All that readiness depends on: what is well, what is not and why, and what to do about it."""
    checks: list[dict[str, object]] = [
        {
            "check": f"plugin {name}",
            "status": host.status,
            "is_well": host.status is Status.RUNNING and not host.is_paused,
            "is_critical": host.critical,
            "reason": _reason_of(host),
            "remedy": host.remedy or _remedy_for(name, host),
        }
        for name, host in runtime.hosts.items()
    ]
    store = runtime.store
    if store is not None:
        state = _state_of(store)
        checks.append(
            {
                "check": "store",
                "is_well": store.trouble is None and not store.is_near_limit,
                "is_critical": True,
                "reason": state["trouble"] or state["limit"],
                "remedy": _FULL if store.is_near_limit else None,
            }
        )
    log = describe_log()
    checks.append(
        {
            "check": "log",
            "is_well": log["trouble"] is None,
            "is_critical": False,
            "reason": log["trouble"],
            "remedy": None,
        }
    )
    return checks


def _reason_of(host: Host) -> str | None:
    if host.is_paused:
        return "the delivery is paused"
    # Of an error its type alone: its text may hold secrets, and is in the log.
    return host.trouble or (None if host.failure is None else kind_of(host.failure))


def _remedy_for(name: str, host: Host) -> str | None:
    """The order by which an operator helps a plugin on, where only that helps."""
    if host.is_paused:
        return f"trivet resume {name}"
    if host.status is Status.FAILED:
        return f"mend the cause, and then: trivet restart {name}"
    return f"trivet enable {name}" if host.status is Status.DISABLED else None


def is_ready(runtime: Runtime) -> bool:
    """Whether requests are welcome."""
    if runtime.stopping.is_set():
        return False
    try:
        readiness(runtime)
    except ProblemError:
        return False
    return True


def describe_plugins(runtime: Runtime) -> dict[str, object]:
    """The status of every plugin, its subscriptions, and the fates of its events."""
    listens_to = {checked.name: checked.listens_to for checked in runtime.program.plugins}
    inboxes = runtime.statistics()
    usage = runtime.usage()
    durable = runtime.durable
    return {
        name: {
            "class": type(host.plugin).__qualname__,  # Several plugins may be of one class.
            "status": host.status,
            "critical": host.critical,
            "trouble": host.trouble,
            "remedy": host.remedy,
            "waits_for": host.waits_for.name if host.waits_for else None,
            "restarts": host.restarts,
            # Its type alone: its text may hold secrets, and is in the log.
            "error": None if host.failure is None else kind_of(host.failure),
            "routes": [describe_route(route) for route in routes_of(type(host.plugin))],
            "listens_to": [event.__event_name__ for event in listens_to[name]],
            "usage": attrs.asdict(usage[name]) if name in usage else None,
            "durable": name in durable,
            "paused": host.is_paused,
            "inbox": attrs.asdict(inboxes[name]) if name in inboxes else None,
        }
        for name, host in runtime.hosts.items()
    }


def describe_route(route: Route) -> dict[str, object]:
    """A route as it is shown: with the scope that it asks for, or that it is public."""
    methods = ["websocket"] if route.is_websocket else list(route.methods)
    return {"path": route.path, "methods": methods, "scope": route.scope or "public"}


def kind_of(failure: BaseException) -> str:
    """The class of an error, and of the only error of a group."""
    errors = [*members(failure)]
    return type(errors[0] if len(errors) == 1 else failure).__name__


def describe_log() -> dict[str, object]:
    """The number of lines that the log lost, and why the next one cannot be written."""
    return {"lost": _log_writer.lost_lines(), "trouble": _log_writer.trouble()}


def describe_store(runtime: Runtime) -> dict[str, object] | None:
    """The file of the durable inboxes, its size, and why events cannot be stored.

    None where there is no durable inbox.
    """
    store = runtime.store
    if store is None:
        return None
    return {"path": str(store.path), **_state_of(store)}


def _state_of(store: Store) -> dict[str, object]:
    """The part that a stranger may know: without the path of the file."""
    # The reason concerns the file or the disk; it never repeats the event.
    trouble = None if store.trouble is None else store.trouble.reason
    limit = "near its limit: what comes waits, or is refused" if store.is_near_limit else None
    return {"bytes": store.bytes, "trouble": trouble, "limit": limit}
