"""The requests of an operator: a plugin is restarted over HTTP.

Never knows how a restart is done: that is the runtime's. The doors have checked the token.
"""

from __future__ import annotations

import structlog
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from .._access._tokens import Scope
from .._faults._errors import PluginNotActiveError, RestartRefusedError
from .._runtime import Runtime
from ._problems import ProblemError

SCOPES: dict[str, Scope | None] = {"restart": "admin"}
"""The scopes of Quart's endpoints here."""

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet.http")


def add_admin(app: QuartTrio, runtime: Runtime) -> None:
    """Serve `POST /plugins/{name}/restart`, for an operator with a token for `admin`."""

    @app.post("/plugins/<name>/restart")
    async def restart(name: str) -> ResponseReturnValue:
        """202: a new lifetime has begun; `GET /plugins` shows its status."""
        try:
            runtime.restart(name)
        except PluginNotActiveError as error:
            raise ProblemError("unknown_plugin", str(error)) from error
        except RestartRefusedError as error:
            raise ProblemError("restart_refused", str(error)) from error
        _log.info("plugin restarted by an operator", plugin=name)
        return {"plugin": name, "status": runtime.hosts[name].status}, 202
