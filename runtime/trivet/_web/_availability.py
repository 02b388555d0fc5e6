"""The refusal of a request for a plugin that is not up.

Owns the problem, which says how the plugin is and when to ask again.
Never knows what was asked for.
"""

from __future__ import annotations

from .._plugins._status import Status
from .._supervision._host import Host
from ._problems import ProblemError


def require_running(host: Host) -> None:
    """Refuse the current request while a plugin is not up.

    Raises:
        ProblemError: it is not.
    """
    if host.is_up:
        return
    retry_after = None if host.is_given_up else host.retry_in or 1.0
    status = host.status.replace("_", " ")
    by = " by an operator" if host.status is Status.DISABLED else ""
    detail = f"plugin {host.name!r} is not running: {status}{by}"
    facts = {"plugin": host.name, "plugin_status": host.status}
    raise ProblemError("plugin_unavailable", detail, facts, retry_after=retry_after)
