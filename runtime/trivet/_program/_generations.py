"""The generations of the code in the plugins' directory: what is imported anew, and what is undone.

Owns the modules of the directory, their files' digests, which of them import from which, and the
import of some of them beside the old ones.
Never knows plugins, nor when the old modules are let go.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import linecache
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from .._faults._errors import ConfigurationError, ReloadRefusedError
from ._finder import PACKAGE, is_within


def modules() -> dict[str, ModuleType]:
    """The imported modules of the plugins' directory, by name."""
    return {
        name: module
        for name, module in list(sys.modules.items())
        if is_within(name, PACKAGE) and name != PACKAGE
    }


def digests() -> dict[str, str | None]:
    """The SHA-256 of each module's file, as it is now; None for a file that cannot be read."""
    return {name: _digest(module) for name, module in modules().items()}


def _digest(module: ModuleType) -> str | None:
    try:
        return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    except OSError:
        return None


def importing(names: Iterable[str]) -> set[str]:
    """The modules with these names, and all that import from them, directly or through others."""
    imports = {name: set(_imports(name, module)) for name, module in modules().items()}
    found = set(names)
    while more := {name for name, others in imports.items() if others & found} - found:
        found |= more
    return found


def imported_by(names: Iterable[str]) -> set[str]:
    """The modules with these names, and all of the directory that they import from."""
    loaded, found = modules(), set[str]()
    left = [*names]
    while left:
        name = left.pop()
        if name in loaded and name not in found:
            found.add(name)
            left += _imports(name, loaded[name])
    return found


def _imports(name: str, module: ModuleType) -> Iterator[str]:
    """The modules of the directory that a module imports from, by its source and its values."""
    parent = name.rpartition(".")[0]
    if parent != PACKAGE:
        yield parent
    for value in list(vars(module).values()):
        home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
        if isinstance(home, str) and is_within(home, PACKAGE) and home != name:
            yield home
    package = name if hasattr(module, "__path__") else name.rpartition(".")[0]
    for written in _written(str(module.__file__)):
        try:
            full = importlib.util.resolve_name(written, package)
        except ImportError:
            continue
        if is_within(full, PACKAGE) and full != name:
            yield full


def _written(file: str) -> Iterator[str]:
    """The names that a file imports; a relative one begins with its dots."""
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots, home = "." * node.level, node.module or ""
            if home:
                yield dots + home
            between = "." if home else ""
            yield from (f"{dots}{home}{between}{alias.name}" for alias in node.names)


def _tree(file: str) -> ast.Module:
    try:
        return ast.parse(Path(file).read_bytes())
    except (
        OSError,
        SyntaxError,
        ValueError,
        MemoryError,
        RecursionError,
    ):  # The import tells what is wrong with it.
        return ast.Module([], [])


class Generation:
    """The modules that are imported anew, and the old ones that they replace.

    Args:
        names: the modules that are to be imported anew.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._old = {name: module for name, module in modules().items() if name in {*names}}
        self._kept = set(modules()) - set(self._old)
        self._lock = threading.Lock()
        self._is_over = False

    def begin(self) -> None:
        """Have the next imports make new modules.

        Raises:
            ConfigurationError: one of the files needs a restart.
            ReloadRefusedError: it is undone already.
        """
        for module in self._old.values():
            if isinstance(getattr(module.__spec__, "loader", None), ExtensionFileLoader):
                raise ConfigurationError(f"{module.__file__}: a C extension needs a restart")
            _refuse_new_requirements(str(module.__file__))
        importlib.invalidate_caches()
        with self._lock:
            self._refuse_if_over()
            for name in self._old:
                _forget(name)
            sys.meta_path.insert(0, _FRESH)

    def imported(self) -> None:
        """Note that everything is imported.

        Raises:
            ReloadRefusedError: it is undone already.
        """
        with self._lock:
            self._refuse_if_over()
            self._end_imports()

    def _refuse_if_over(self) -> None:
        if self._is_over:
            raise ReloadRefusedError("it came too late")

    def _end_imports(self) -> None:
        if _FRESH in sys.meta_path:
            sys.meta_path.remove(_FRESH)
        for module in self._old.values():
            linecache.checkcache(module.__file__)

    def undo(self) -> None:
        """Have the old modules in their places again, and no new one; again does nothing.

        A thread that still imports does not change that: Python itself puts a module into the
        place that the module has at the import's end.
        """
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
        self._end_imports()
        for name in modules().keys() - self._kept:
            _forget(name)
        for name, module in self._old.items():
            sys.modules[name] = module
            parent, _, last = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], last, module)


def _forget(name: str) -> None:
    sys.modules.pop(name, None)
    parent, _, last = name.rpartition(".")
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(last, None)


def _refuse_new_requirements(file: str) -> None:
    """Refuse a file that imports a library that was not imported before."""
    for written in _written(file):
        top = written.partition(".")[0]
        if not top or top in sys.modules or top in sys.stdlib_module_names:
            continue
        if importlib.util.find_spec(top) is not None:
            raise ConfigurationError(f"{file}: {top!r} is a new requirement, which needs a restart")


class _Fresh(MetaPathFinder):
    """Finds the modules of the directory, and has their source compiled whatever is cached.

    Python's cache knows a file by its size and by the second of its change.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if not is_within(fullname, PACKAGE):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
            raise ConfigurationError(f"{spec.origin}: a C extension needs a restart")
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            _refuse_new_requirements(spec.loader.path)  # The file may be new.
            spec.loader = _Uncached(spec.loader.name, spec.loader.path)
        return spec


class _Uncached(SourceFileLoader):
    """Loads a file by its source."""

    def get_code(self, fullname: str) -> CodeType:
        """See `importlib.abc.InspectLoader`."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


_FRESH = _Fresh()
