"""A plugin that stands for a file that is not imported, since its import ends the program.

Owns what is known of such a file: its name, and whether its table says that it is critical.
Never knows why the import ends the program.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._faults._errors import PermanentError
from .._plugins._plugin import BackgroundPlugin
from ._inspection import NamedClass
from ._plugin_tables import CheckedPlugin, check_plugin
from ._settings import Settings


class NotImported(BackgroundPlugin):
    """A file that is not imported; it has no routes, and takes no events."""

    async def initialize(self) -> None:
        """Refuse the start."""
        raise PermanentError("its file is not imported; restart the program to try it again")


def not_imported(settings: Settings, plugins: Iterable[NamedClass]) -> list[NamedClass]:
    """A plugin for each active file that is not imported, under the file's name."""
    names = {plugin.name for plugin in plugins}
    return [
        NamedClass(name, NotImported, is_alias=True)
        for name in settings.disabled_files
        if name in settings.active_plugins and name not in names
    ]


def check_not_imported(plugin: NamedClass, settings: Settings) -> CheckedPlugin:
    """Check the part of the table that does not need the plugin's class.

    Raises:
        ConfigurationError: every fault of that part, a line each.
    """
    supervision = settings.table(plugin.name).get("supervision", {})
    own = Settings(plugins={plugin.name: {"supervision": supervision}}, file=settings.file)
    return check_plugin(plugin, own, None)
