"""The actions of an operator, under `/-/`: a plugin is restarted over HTTP.

Never knows how an action is done: that is the runtime's. The doors have checked the token.
"""

from __future__ import annotations

from .._faults._errors import PluginNotActiveError, RestartRefusedError
from .._runtime import Runtime
from ._context import current_context
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError


def add_admin(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `POST /-/plugins/{name}/restart`, for an operator with a token for `admin`."""

    async def restart(request: EndpointRequest) -> EndpointResponse:
        """202: a new lifetime has begun; `GET /plugins` shows its status."""
        name = request.variable
        try:
            runtime.restart(name)
        except PluginNotActiveError as error:
            raise ProblemError("unknown_plugin", str(error)) from error
        except RestartRefusedError as error:
            raise ProblemError("restart_refused", str(error)) from error
        token = current_context().caller.token
        runtime.operator_acted("restart", name, None if token is None else token.name)
        return {"plugin": name, "status": runtime.hosts[name].status}, 202

    fast_path.add("POST", "/-/plugins/<name>/restart", "admin", restart)
