"""The requests of an operator to read the settings, or a plugin's code, anew.

Owns the answer: what became of each thing that has changed, or all faults.
Never knows how a reload is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import TypeVar

import attrs
import trio

from .._faults._errors import ConfigurationError, ReloadRefusedError, StaleSettingsError
from .._program._collector import lines_of
from .._program._difference import Change
from .._program._reloads import Reloads
from .._runtime import Runtime
from ._admin import acted, host_of
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError

T = TypeVar("T")

_NOT_THIS_PROGRAM = "the settings of this program come from the code around Trivet"


def add_reload(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `POST /-/reload` and `POST /-/plugins/{name}/reload`."""

    async def reload(request: EndpointRequest) -> EndpointResponse:
        """200: the settings were read anew; what became of each thing that differs.

        Nothing has changed where any of it has a fault, or a plugin does not start with it.
        """
        changes = await asked(reloads_of(runtime).reload())
        acted(runtime, request, "reload")
        return {"changes": described(changes)}, 200

    async def reload_plugin(request: EndpointRequest) -> EndpointResponse:
        """200: the plugin's code was imported anew, with all that imports from it.

        The old code runs on where the new one has a fault, does not start, or would not fit events
        that wait.
        """
        name = host_of(runtime, request).name
        changes = await asked(reloads_of(runtime).reload_plugin(name))
        acted(runtime, request, "reload", name)
        return {"changes": described(changes)}, 200

    fast_path.add("POST", "/-/plugins/<name>/reload", "admin", reload_plugin)
    fast_path.add("POST", "/-/reload", "admin", reload)


def reloads_of(runtime: Runtime, code: str = "reload_refused") -> Reloads:
    """The reloads of a program, or the problem of one that has none."""
    if runtime.reloads is None:
        raise ProblemError(code, _NOT_THIS_PROGRAM)
    return runtime.reloads


async def asked(reload: Awaitable[T], code: str = "reload_refused") -> T:
    """Have a reload done, or raise the problem."""
    outcome: list[T] = []
    try:
        with trio.CancelScope(shield=True):  # The stop of the program ends it.
            outcome.append(await reload)
    except StaleSettingsError as error:
        raise ProblemError("precondition_failed", str(error)) from error
    except (ConfigurationError, ReloadRefusedError) as error:
        raise refused(error, code) from error
    return outcome[0]


def described(changes: Iterable[Change]) -> list[Mapping[str, object]]:
    """The changes, as JSON has them."""
    return [attrs.asdict(each) for each in changes]


def refused(error: ConfigurationError | ReloadRefusedError, code: str) -> ProblemError:
    """The problem of a reload that has changed nothing, with its faults one by one."""
    faults = lines_of(str(error))
    detail = faults[0] if len(faults) == 1 else f"{len(faults)} faults; nothing has changed"
    return ProblemError(code, detail, {"faults": faults})
