"""The requests of an operator: a plugin is restarted over HTTP.

Owns the check of the operator's token.
Never knows how a restart is done: that is the runtime's.
"""

from __future__ import annotations

import hmac

from quart import request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from .._faults._errors import PluginNotActiveError, RestartRefusedError
from .._faults._secret import Secret
from .._runtime import Runtime
from ._problems import ProblemError


def add_admin(app: QuartTrio, runtime: Runtime) -> None:
    """Serve `POST /plugins/{name}/restart`, for an operator who has the token."""

    @app.post("/plugins/<name>/restart")
    async def restart(name: str) -> ResponseReturnValue:
        """202: a new lifetime has begun; `GET /plugins` shows its status."""
        _refuse_unless_operator(runtime.program.settings.admin_token)
        try:
            runtime.restart(name)
        except PluginNotActiveError as error:
            raise ProblemError("unknown_plugin", str(error)) from error
        except RestartRefusedError as error:
            raise ProblemError("restart_refused", str(error)) from error
        return {"plugin": name, "status": runtime.hosts[name].status}, 202


def _refuse_unless_operator(token: Secret | None) -> None:
    """Raise unless the request has the operator's token.

    Raises:
        ProblemError: the request has no token, or a wrong one, or the program has none itself.
    """
    if token is None:
        raise ProblemError("forbidden", "the operator has set no `admin_token`")
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # As bytes, since text that is not ASCII would raise; in constant time.
    is_right = hmac.compare_digest(given.encode(), token.reveal().encode())
    if scheme.lower() != "bearer" or not is_right:
        raise ProblemError(
            "unauthorized",
            "send `Authorization: Bearer` with the `admin_token`",
            headers={"WWW-Authenticate": "Bearer"},
        )
