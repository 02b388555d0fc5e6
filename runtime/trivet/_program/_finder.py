"""Names in settings, and the modules that they name: files, folders or entry points.

Owns the synthetic package `trivet_plugins`, the importing, and the messages about failed imports.
Never knows the classes of a plugin, nor when a class is right.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
import traceback
from difflib import get_close_matches
from functools import cached_property
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from threading import current_thread, main_thread

import attrs
import structlog

from .._faults._acts import noted
from .._faults._containment import summary
from .._faults._errors import NAMED_AT_MOST, ConfigurationError, DefinitionError, nearest
from ._requirements import check_requirements, requirements_of, requirements_of_file
from ._settings import absolute

PACKAGE = "trivet_plugins"
"""The name under which the plugins' directory is imported."""

GROUP = "trivet.plugins"
"""The group of entry points, each of which names a module."""


_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


@attrs.frozen
class NamedModule:
    """A module that a setting names."""

    name: str
    """The name in the settings."""
    module: str
    """The module's name for Python."""
    place: str
    """The file or entry point, for messages."""
    setting: str
    """The key that names the module, for messages."""
    alias: str | None = None
    """The new name of its one plugin, where a table says `use`; None to keep the names of all."""
    plugin: str | None = None
    """The own name of the plugin that gets the alias; None where the module has one plugin."""
    requirements: tuple[str, ...] = ()
    """The versions of Trivet that its author says it is for, such as `trivet>=0.1,<0.3`."""


class Finder:
    """Finds modules in one directory, and by entry points.

    Args:
        directory: the plugins' directory, which need not exist.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @cached_property
    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        by_name: dict[str, list[EntryPoint]] = {}
        for entry_point in entry_points(group=GROUP):
            by_name.setdefault(entry_point.name, []).append(entry_point)
        return by_name

    def mount(self) -> None:
        """Make the directory importable as `trivet_plugins`, and forget an earlier one."""
        for name in [name for name in sys.modules if is_within(name, PACKAGE)]:
            del sys.modules[name]
        spec = ModuleSpec(PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(absolute(self._directory))]
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        importlib.invalidate_caches()

    @property
    def is_mounted(self) -> bool:
        """Whether the directory is importable."""
        return _path_of(PACKAGE) == [str(absolute(self._directory))]

    def find(self, name: str, setting: str = "active_plugins") -> NamedModule:
        """Find a plugin's module by the name of its file, its folder or its entry point.

        Args:
            name: the name.
            setting: the key that gives the name, for messages.

        Raises:
            ConfigurationError: there is no such module, or the name cannot be one.
        """
        self._check_file_name(name, setting)
        file = self._file(name)
        entries = self._entry_points.get(name, [])
        if file is None and not entries:
            missing = "" if self._exists else ", which does not exist"
            raise ConfigurationError(
                f"{setting}: no plugin {name!r} in {self._directory}{missing}, "
                f"nor among the entry points: {nearest(name, self.available())}"
            )
        if file is None:
            return _module_of(name, entries, setting)
        if entries:
            _log.warning(
                "a file hides an entry point", name=name, file=str(file), hidden=entries[0].value
            )
        return _module_of_file(name, file, setting)

    def find_used(self, name: str, use: object, setting: str) -> NamedModule:
        """Find the module of a plugin that the operator runs under another name.

        Args:
            name: the new name.
            use: a name as for `find`; where the module has several plugins, `MODULE.PLUGIN`.
            setting: the key that gives `use`, for messages.

        Raises:
            ConfigurationError: there is no such module, or a name cannot be one.
        """
        if not isinstance(use, str):
            raise ConfigurationError(f"{setting}: expected a plugin's name, as a string")
        if not re.fullmatch(r"[\w-]+", name):
            raise ConfigurationError(
                f"{setting}: a plugin's name has letters, digits, '-' and '_' only, not {name!r}"
            )
        module, _, plugin = use.partition(".")
        if plugin == "py":
            module, plugin = use, ""
        return attrs.evolve(self.find(module, setting), alias=name, plugin=plugin or None)

    def find_event_types(self, name: str, setting: str = "event_types") -> NamedModule:
        """Find a module that `event_types` names, in the directory or importable elsewhere.

        Args:
            name: the name.
            setting: the key that gives the name, for messages.

        Raises:
            ConfigurationError: the name cannot be a module's.
        """
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigurationError(
                f"{setting}: {name!r} is no module's name: write it as an import does, `a.b`"
            )
        file = self._file(name)
        if file is not None:
            return _module_of_file(name, file, setting)
        return NamedModule(name, name, f"module {name}", setting)

    def _file(self, name: str) -> Path | None:
        for file in (self._directory / name / "__init__.py", self._directory / f"{name}.py"):
            if _is_file(file):
                return file
        return None

    def _check_file_name(self, name: str, setting: str) -> None:
        if name.isidentifier():
            return
        stem, (file, _, plugin) = name.removesuffix(".py"), name.partition(".")
        if stem.isidentifier():
            hint = f"write it without .py: {stem!r}"
        elif plugin.isidentifier() and self.has(file):
            hint = (
                f"one plugin of a file is activated by its own name, {plugin!r}, and "
                f'`use = "{name}"` in the table [plugins.{plugin}]'
            )
        elif "/" in name or "\\" in name or ".." in name:
            hint = "a name has no path in it; `plugins_directory` says where the files are"
        else:
            hint = "a file that can be imported has letters, digits and underscores in its name"
        raise ConfigurationError(f"{setting}: {name!r} is no plugin's name: {hint}")

    def has(self, name: str) -> bool:
        """Whether a file, a folder or an entry point has this name."""
        return name in self.available()

    @property
    def _exists(self) -> bool:
        try:
            return self._directory.is_dir()
        except OSError:  # The path is longer than the system takes.
            return False

    def available(self) -> set[str]:
        """The names of all plugins' files, folders and entry points."""
        if not self._exists:
            return set(self._entry_points)
        files = {file.stem for file in self._directory.glob("*.py")}
        folders = {file.parent.name for file in self._directory.glob("*/__init__.py")}
        return {
            name for name in files | folders | set(self._entry_points) if not name.startswith("_")
        }


def _is_file(file: Path) -> bool:
    """Whether the file exists; a name that is longer than the system takes has none."""
    try:
        return file.is_file()
    except OSError:
        return False


def _module_of_file(name: str, file: Path, setting: str) -> NamedModule:
    requirements = requirements_of_file(file)
    module = f"{PACKAGE}.{name}"
    return NamedModule(name, module, str(file), setting, requirements=requirements)


def _module_of(name: str, entry_points: list[EntryPoint], setting: str) -> NamedModule:
    modules = sorted({entry_point.module for entry_point in entry_points})
    if len(modules) > 1:
        raise ConfigurationError(
            f"{setting}: two entry points are named {name!r}: {' and '.join(modules)}"
        )
    place = f"entry point {name} = {modules[0]}"
    requirements = requirements_of(entry_points[0].dist)
    return NamedModule(name, modules[0], place, setting, requirements=requirements)


def import_named(named: NamedModule) -> None:
    """Import a module; its author's code runs.

    Raises:
        ConfigurationError: the code is for another version of Trivet, and was not run; or it raised
            an exception, and the error names its file and line.
    """
    check_requirements(named.requirements, named.place)
    try:
        with noted(f"the import of {named.name!r}"):
            importlib.import_module(named.module)
    except BaseException as error:  # noqa: ASYNC103 - the author's own: nothing is awaited
        if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
            raise  # It may be Ctrl-C, in a program of one's own.
        place = _place_of(error, named) or named.place
        said = f"{_reason_of(error).removeprefix(f'{place}: ')}{_hint_about(error, named, place)}"
        text = f"{place}: {said} (while importing {named.name!r} of `{named.setting}`)"
        raise ConfigurationError(text) from error  # noqa: ASYNC104


def _hint_about(error: BaseException, named: NamedModule, place: str) -> str:
    """A hint about a module that does not exist; empty for any other error."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return ""
    if is_within(named.module, error.name):
        return _hint_of_misspelling(error.name)
    return _hint_of_sibling(error.name, place)


def _hint_of_misspelling(module: str) -> str:
    """A hint for an operator who names a module that does not exist: the nearest that does."""
    parent = module.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    places = _path_of(parent) if parent else [*sys.path, *_path_of(PACKAGE)]
    known = [each.name for each in pkgutil.iter_modules(places, prefix)]
    close = get_close_matches(module[:NAMED_AT_MOST], known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _path_of(package: str) -> list[str]:
    """The directories of an imported package."""
    return list(getattr(sys.modules.get(package), "__path__", ()))


def _hint_of_sibling(missing: str, place: str) -> str:
    """A hint for an author who imports a neighbouring file as if it were a library."""
    name, folder = missing.partition(".")[0], Path(place.rpartition(":")[0]).parent
    if not any(_is_file(file) for file in (folder / f"{name}.py", folder / name / "__init__.py")):
        return ""
    return f"; it is a file beside this one: write `from .{name} import …`"


def _reason_of(error: BaseException) -> str:
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return summary(error)


def _place_of(error: BaseException, named: NamedModule) -> str | None:
    """File and line of a wrong syntax or method, or of the deepest frame in author's modules."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return f"{error.filename}:{error.lineno}"
    if isinstance(error, DefinitionError) and error.place is not None:
        return error.place
    root = PACKAGE if is_within(named.module, PACKAGE) else named.module
    places = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if is_within(frame.f_globals.get("__name__", ""), root)
    ]
    return places[-1] if places else None


def is_within(module: str, root: str) -> bool:
    """Whether a module is `root` itself, or below it."""
    return module == root or module.startswith(f"{root}.")


def classes_within(root: str) -> list[type]:
    """The classes that the imported modules at and below `root` define."""
    classes = [
        value
        for name, module in list(sys.modules.items())
        if is_within(name, root)
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == name
    ]
    return list(dict.fromkeys(classes))
