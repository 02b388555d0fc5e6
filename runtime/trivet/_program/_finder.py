"""From a name to a module: a file of the plugins' directory, or an entry point.

Owns the synthetic package `trivet_plugins`, the importing, and the words for what fails there.
Never knows what a plugin must look like.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from functools import cached_property
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs
import structlog

from .._faults._acts import noted
from .._faults._containment import summary
from .._faults._errors import ConfigurationError, nearest

PACKAGE = "trivet_plugins"
"""The name under which the plugins' directory is imported."""

GROUP = "trivet.plugins"
"""The group of entry points, each of which names a module."""


_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Faults:
    """Several faults of a configuration, to be reported at once."""

    def __init__(self) -> None:
        self._errors: list[ConfigurationError] = []

    def collect(self) -> Self:
        """Keep the fault that is raised inside, and go on."""
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if isinstance(error, ConfigurationError):
            self._errors.append(error)
            return True
        return False

    def check(self) -> None:
        """Raise what was collected, as one error of one line each."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            text = "\n".join(dict.fromkeys(map(str, self._errors)))
            raise ConfigurationError(text) from ExceptionGroup("faults", self._errors)


@attrs.frozen
class Found:
    """What an activated name stands for."""

    name: str
    """As the settings have it."""
    module: str
    """The module's name for Python."""
    place: str
    """Where it is, for messages."""
    setting: str
    """Which setting names it."""
    instance: str | None = None
    """What its one plugin is to be called, where a table says `use`; else each has its own name."""
    plugin: str | None = None
    """Which of its plugins that is, by its own name; None where there is but one."""


class Finder:
    """Finds modules in one directory, and behind entry points."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @cached_property
    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        by_name: dict[str, list[EntryPoint]] = {}
        for entry_point in entry_points(group=GROUP):
            by_name.setdefault(entry_point.name, []).append(entry_point)
        return by_name

    def mount(self) -> None:
        """Make the directory importable as `trivet_plugins`, with nothing imported from it yet."""
        for name in [name for name in sys.modules if is_within(name, PACKAGE)]:
            del sys.modules[name]
        spec = ModuleSpec(PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(self._directory.absolute())]
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        importlib.invalidate_caches()

    def find(self, name: str, setting: str = "active_plugins") -> Found:
        """Find the plugin's module by the name of its file, its folder or its entry point.

        Args:
            name: that name.
            setting: which setting gives it, for messages.

        Raises:
            ConfigurationError: there is none, or that cannot be a name.
        """
        self._check_file_name(name, setting)
        file = self._file(name)
        behind = self._entry_points.get(name, [])
        if file is None and not behind:
            missing = "" if self._directory.is_dir() else ", which does not exist"
            raise ConfigurationError(
                f"{setting}: no plugin {name!r} in {self._directory}{missing}, "
                f"nor among the entry points: {nearest(name, self._available())}"
            )
        if file is None:
            return _found_behind(name, behind, setting)
        if behind:
            _log.warning(
                "a file hides an entry point", name=name, file=str(file), hidden=behind[0].value
            )
        return Found(name, f"{PACKAGE}.{name}", str(file), setting)

    def find_instance(self, name: str, use: object, setting: str) -> Found:
        """Find the plugin of which the operator wants an instance of this name.

        Args:
            name: what the instance is to be called.
            use: a name as for `find`; where that module has several plugins, with a point and the
                plugin's own name behind it.
            setting: which setting gives it, for messages.

        Raises:
            ConfigurationError: there is none, or that cannot be a name.
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
        return attrs.evolve(self.find(module, setting), instance=name, plugin=plugin or None)

    def find_event_types(self, name: str) -> Found:
        """Find a module that `event_types` names: in the directory, or importable.

        Raises:
            ConfigurationError: that cannot be a name.
        """
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigurationError(
                f"event_types: {name!r} is no module's name: write it as an import does, `a.b`"
            )
        file = self._file(name)
        if file is not None:
            return Found(name, f"{PACKAGE}.{name}", str(file), "event_types")
        return Found(name, name, f"module {name}", "event_types")

    def _file(self, name: str) -> Path | None:
        for file in (self._directory / name / "__init__.py", self._directory / f"{name}.py"):
            if file.is_file():
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
        """Whether there is a file, a folder or an entry point of this name."""
        return name in self._available()

    def _available(self) -> set[str]:
        files = {file.stem for file in self._directory.glob("*.py")}
        folders = {file.parent.name for file in self._directory.glob("*/__init__.py")}
        return {
            name for name in files | folders | set(self._entry_points) if not name.startswith("_")
        }


def _found_behind(name: str, entry_points: list[EntryPoint], setting: str) -> Found:
    modules = sorted({entry_point.module for entry_point in entry_points})
    if len(modules) > 1:
        raise ConfigurationError(
            f"{setting}: two entry points are named {name!r}: {' and '.join(modules)}"
        )
    return Found(name, modules[0], f"entry point {name} = {modules[0]}", setting)


def import_found(found: Found) -> Found:
    """Import the module.

    Raises:
        ConfigurationError: with the file and line of the author's, whatever was raised.
    """
    try:
        with noted(f"the import of {found.name!r}"):
            importlib.import_module(found.module)
    except (Exception, SystemExit) as error:
        place = _place_in(error, found) or found.place
        said = f"{_what(error)}{_neighbour(error, place)}"
        text = f"{place}: {said} (while importing {found.name!r} of `{found.setting}`)"
        raise ConfigurationError(text) from error
    return found


def _neighbour(error: BaseException, place: str) -> str:
    """A clause that helps who imports a file beside his own as if it were a library."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return ""
    name, folder = error.name.partition(".")[0], Path(place.rpartition(":")[0]).parent
    if not any(file.is_file() for file in (folder / f"{name}.py", folder / name / "__init__.py")):
        return ""
    return f"; it is a file beside this one: write `from .{name} import …`"


def _what(error: BaseException) -> str:
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return summary(error)


def _place_in(error: BaseException, found: Found) -> str | None:
    """File and line: of a syntax error, or of the deepest frame in the author's modules."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return f"{error.filename}:{error.lineno}"
    root = PACKAGE if is_within(found.module, PACKAGE) else found.module
    places = [
        f"{frame.f_code.co_filename}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if is_within(frame.f_globals.get("__name__", ""), root)
    ]
    return places[-1] if places else None


def is_within(module: str, root: str) -> bool:
    """Whether the module is the root, or below it."""
    return module == root or module.startswith(f"{root}.")


def classes_within(root: str) -> list[type]:
    """The classes that are defined in this module or below it, as far as it is imported."""
    classes = [
        value
        for name, module in list(sys.modules.items())
        if is_within(name, root)
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == name
    ]
    return list(dict.fromkeys(classes))
