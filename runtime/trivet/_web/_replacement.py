"""The restart of the whole program, which an operator asks for over HTTP.

Owns the answer, which comes when it is decided which program serves on.
Never knows how a new program takes the old one's place: that is the parent process's.
"""

from __future__ import annotations

from .._runtime import Runtime
from ._admin import acted
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError


def add_replacement(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `POST /-/restart`, for an operator with a token for `admin`."""

    async def restart(request: EndpointRequest) -> EndpointResponse:
        """202: a new program is checked, and takes this one's place; new clients wait meanwhile.

        It is refused where the new program is not checked: then this one serves on.
        """
        if runtime.replace is None:
            detail = "no parent process would start a new program: stop this one, and start it"
            raise ProblemError("order_refused", detail)
        if not await runtime.replace():
            detail = "the new program did not come up, and this one serves on: see the log"
            raise ProblemError("order_refused", detail)
        acted(runtime, request, "restart")
        return {"service": runtime.service, "status": "restarting"}, 202

    fast_path.add("POST", "/-/restart", "admin", restart)
