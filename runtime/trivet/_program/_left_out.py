"""The active plugins that an operator leaves out of one run, by `--without`.

Owns the meaning of such a name: a file, which is not even imported, or one plugin of a file.
Never knows why a plugin is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._faults._errors import ConfigurationError, nearest
from ._collector import Faults
from ._inspection import NamedClass
from ._settings import Settings

OPTION = "--without"


def active_files(settings: Settings) -> list[str]:
    """The names of `active_plugins` whose modules are imported, each once."""
    missing = {*settings.left_out, *settings.disabled_files}
    return [name for name in dict.fromkeys(settings.active_plugins) if name not in missing]


def leave_out(
    plugins: Iterable[NamedClass], settings: Settings, faults: Faults
) -> list[NamedClass]:
    """The plugins of the imported modules without those that are left out.

    Args:
        plugins: the plugins.
        settings: the operator's settings.
        faults: collects the names that are neither an active file's nor a plugin's.
    """
    names = {plugin.name: plugin for plugin in plugins}
    known = {*settings.active_plugins, *names}
    for name in settings.left_out:
        with faults.collect():
            if name not in known:
                said = f"{OPTION}: no plugin {name!r} is active: {nearest(name, known)}"
                raise ConfigurationError(said)
    return [plugin for name, plugin in names.items() if name not in settings.left_out]


def advice_about(plugin: str, needed: str, settings: Settings) -> str | None:
    """The advice about a plugin that needs one that is not there, perhaps since it is left out."""
    if not settings.left_out:
        return None
    if needed in settings.left_out:
        return f"{OPTION} leaves it out; leave both out: {OPTION} {needed} {OPTION} {plugin}"
    files = ", ".join(map(repr, settings.left_out))
    return f"perhaps it is of a file that {OPTION} leaves out ({files})"
