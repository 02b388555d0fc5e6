"""All that an operator may know of a plugin: its account, its code, its last error, its settings.

Owns the form of these documents; a secret is masked in them.
Never knows who may read them.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import cast

import attrs

from .._faults._containment import summary
from .._faults._masking import mask_beginning
from .._log._levels import levels_in_use
from .._plugins._pages import pages_of
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


def describe_all(runtime: Runtime) -> dict[str, dict[str, object]]:
    """Each plugin by its name: as `GET /plugins` has it, with its history and its needs besides.

    The error, the version and the settings are not in it: see the functions below, which may take
    their time and belong into a thread.
    """
    accounts = cast("dict[str, dict[str, object]]", describe_plugins(runtime))
    levels = levels_in_use()
    return {
        name: {
            **accounts[name],
            "since": host.since,
            "history": [attrs.asdict(each) for each in runtime.history.of(name)],
            "retry_in": host.retry_in,
            "needs": [need.name for need in host.needs.needed],
            "needed_by": sorted({each.name for each in host.needs.dependents()}),
            "pages": [
                {"name": each.attribute, "title": each.title}
                for each in pages_of(type(host.plugin))
            ],
            "log_level": None if levels is None else levels.of(name),
        }
        for name, host in runtime.hosts.items()
    }


def describe_slowly(runtime: Runtime, host: Host) -> dict[str, object]:
    """The parts of one plugin that are found in a thread."""
    return {
        "error": describe_error(host.failure),
        "version": describe_version(runtime.code[type(host.plugin)]),
        "settings": _settings(runtime, host.name),
    }


def describe_error(failure: BaseException | None) -> Mapping[str, str] | None:
    """The last failure in one line, and with its traceback, which reads source files."""
    if failure is None:
        return None
    trace = "".join(traceback.format_exception(failure))
    return {"summary": summary(failure), "traceback": mask_beginning(trace)}


def describe_version(code: CodeVersion) -> Mapping[str, object]:
    """The version of a plugin's code, with its distribution."""
    return {"distribution": distribution_of(code.module), **attrs.asdict(code)}


def _settings(runtime: Runtime, name: str) -> list[Mapping[str, object]]:
    """Each setting that holds for a plugin, with its origin."""
    checked: CheckedPlugin = next(each for each in runtime.program.plugins if each.name == name)
    return [attrs.asdict(each) for each in plugin_settings(runtime.program.settings, checked)]
