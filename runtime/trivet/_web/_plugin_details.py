"""All that an operator may know of a plugin: its account, its code, its last error, its settings.

Owns the form of these documents; a secret is masked in them.
Never knows who may read them.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping

import attrs

from .._faults._containment import summary
from .._faults._masking import mask_beginning
from .._program._origins import plugin_settings
from .._program._plugin_tables import CheckedPlugin
from .._program._versions import CodeVersion, distribution_of
from .._runtime import Runtime
from .._supervision._host import Host
from ._probes import describe_plugins


def summarize(runtime: Runtime) -> Mapping[str, object]:
    """Each plugin by its name: the status and since when, restarts, the last error in one line."""
    return {
        name: {
            "class": type(host.plugin).__qualname__,
            "status": host.status,
            "since": host.since,
            "critical": host.critical,
            "paused": host.is_paused,
            "restarts": host.restarts,
            "error": host.error,
        }
        for name, host in runtime.hosts.items()
    }


def describe(runtime: Runtime, host: Host) -> dict[str, object]:
    """One plugin: as `GET /plugins` has it, with its history and its settings besides.

    The error and the version are not in it: see `describe_error` and `describe_version`.
    """
    account: object = describe_plugins(runtime)[host.name]
    assert isinstance(account, dict)
    return {**account, "since": host.since, "settings": _settings(runtime, host.name)}


def describe_error(failure: BaseException | None) -> Mapping[str, str] | None:
    """The last failure in one line, and with its traceback.

    Tracebacks read source files, which may take its time: it belongs into a thread.
    """
    if failure is None:
        return None
    trace = "".join(traceback.format_exception(failure))
    return {"summary": summary(failure), "traceback": mask_beginning(trace)}


def describe_version(code: CodeVersion) -> Mapping[str, object]:
    """The version of a plugin's code, with its distribution: it belongs into a thread, too."""
    return {"distribution": distribution_of(code.module), **attrs.asdict(code)}


def _settings(runtime: Runtime, name: str) -> list[Mapping[str, object]]:
    """Each setting that holds for a plugin, with its origin."""
    checked: CheckedPlugin = next(each for each in runtime.program.plugins if each.name == name)
    return [attrs.asdict(each) for each in plugin_settings(runtime.program.settings, checked)]
