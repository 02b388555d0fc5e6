"""The requests of an operator, under `/-/`: plugins are looked at, and restarted.

Never knows how an action is done: that is the runtime's. The doors have checked the token.
"""

from __future__ import annotations

import trio

from .._faults._errors import PluginNotActiveError, RestartRefusedError
from .._runtime import Runtime
from .._supervision._host import Host
from ._context import current_context
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._plugin_details import describe, describe_error, describe_version, summarize
from ._problems import ProblemError

one_thread = trio.CapacityLimiter(1)
"""A thread for operators: plugins may have taken all of Trio's."""


def add_admin(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `/-/plugins` and what is below, for an operator with a token for `admin`."""

    async def plugins(_: EndpointRequest) -> EndpointResponse:
        """Every plugin's status, since when, its restarts, and its last error in one line."""
        return {"plugins": summarize(runtime)}, 200

    async def plugin(request: EndpointRequest) -> EndpointResponse:
        """One plugin: its account, its code, its last error with the traceback, its settings."""
        host = _host(runtime, request.variable)
        code = runtime.code[type(host.plugin)]
        error = await trio.to_thread.run_sync(describe_error, host.failure, limiter=one_thread)
        version = await trio.to_thread.run_sync(describe_version, code, limiter=one_thread)
        return {**describe(runtime, host), "error": error, "version": version}, 200

    async def restart(request: EndpointRequest) -> EndpointResponse:
        """202: a new lifetime has begun; `GET /-/plugins/{name}` shows its status."""
        host = _host(runtime, request.variable)
        try:
            host.restart()
        except RestartRefusedError as error:
            raise ProblemError("restart_refused", str(error)) from error
        _acted(runtime, "restart", host)
        return {"plugin": host.name, "status": host.status}, 202

    fast_path.add("GET", "/-/plugins", "admin", plugins)
    fast_path.add("GET", "/-/plugins/<name>", "admin", plugin)
    fast_path.add("POST", "/-/plugins/<name>/restart", "admin", restart)


def _host(runtime: Runtime, name: str) -> Host:
    """The host of the plugin that a request names."""
    try:
        return runtime.host(name)
    except PluginNotActiveError as error:
        raise ProblemError("unknown_plugin", str(error)) from error


def _acted(runtime: Runtime, action: str, host: Host) -> None:
    """Tell the action of the current request, which is done."""
    token = current_context().caller.token
    runtime.operator_acted(action, host.name, None if token is None else token.name)
