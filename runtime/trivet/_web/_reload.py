"""The requests of an operator to read the settings, or a plugin's code, anew.

Owns the answer: what became of each thing that has changed, or all faults.
Never knows how a reload is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import attrs
import trio

from .._faults._errors import ConfigurationError, ReloadRefusedError
from .._program._collector import lines_of
from .._program._difference import Change
from .._runtime import Runtime
from ._admin import acted, host_of
from ._fast_path import EndpointRequest, EndpointResponse, Endpoints
from ._problems import ProblemError

_NOT_THIS_PROGRAM = "the settings of this program come from the code around Trivet"


def add_reload(fast_path: Endpoints, runtime: Runtime) -> None:
    """Serve `POST /-/reload` and `POST /-/plugins/{name}/reload`."""

    async def reload(request: EndpointRequest) -> EndpointResponse:
        """200: the settings were read anew; what became of each thing that differs.

        Nothing has changed where any of it has a fault, or a plugin does not start with it.
        """
        changes = await _asked(runtime.reload)
        acted(runtime, request, "reload")
        return {"changes": described(changes)}, 200

    async def reload_plugin(request: EndpointRequest) -> EndpointResponse:
        """200: the plugin's code was imported anew, with all that imports from it.

        The old code runs on where the new one has a fault, does not start, or would not fit events
        that wait.
        """
        name = host_of(runtime, request).name
        ask = None if runtime.reload_plugin is None else partial(runtime.reload_plugin, name)
        changes = await _asked(ask)
        acted(runtime, request, "reload", name)
        return {"changes": described(changes)}, 200

    fast_path.add("POST", "/-/plugins/<name>/reload", "admin", reload_plugin)
    fast_path.add("POST", "/-/reload", "admin", reload)


async def _asked(reload: Callable[[], Awaitable[Sequence[Change]]] | None) -> Sequence[Change]:
    """Have it done, or raise the problem."""
    if reload is None:
        raise ProblemError("reload_refused", _NOT_THIS_PROGRAM)
    changes: Sequence[Change] = ()
    try:
        with trio.CancelScope(shield=True):  # The stop of the program ends it.
            changes = await reload()
    except (ConfigurationError, ReloadRefusedError) as error:
        raise refused(error) from error
    return changes


def described(changes: Iterable[Change]) -> list[Mapping[str, object]]:
    """The changes, as JSON has them."""
    return [attrs.asdict(each) for each in changes]


def refused(error: ConfigurationError | ReloadRefusedError) -> ProblemError:
    """The problem of a reload that has changed nothing, with its faults one by one."""
    faults = lines_of(str(error))
    detail = faults[0] if len(faults) == 1 else f"{len(faults)} faults; nothing has changed"
    return ProblemError("reload_refused", detail, {"faults": faults})
