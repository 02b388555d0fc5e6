"""Imports are declared, declared packages are used, and the lock fits the declarations."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]
LOCK = ROOT / "tests/constraints.txt"
CONTRIB = "contrib/trivet_contrib"
PROVIDERS = packages_distributions()
OURS = {"trivet", "trivet_contrib", "trivet_plugins", "trivet_pytest", "tests", "_typeshed"}
"""The repository's own packages, and one that only type checkers have."""

EXTRAS = {
    "runtime/trivet": {"asyncio", "metrics", "otel", "reload", "top"},
    "runtime/trivet_pytest": {"testing"},
    f"{CONTRIB}/_brokers": {"nats", "rabbitmq", "redis"},
    f"{CONTRIB}/_http": {"influx", "webhook"},
    f"{CONTRIB}/influx": {"influx"},
    f"{CONTRIB}/nats": {"nats"},
    f"{CONTRIB}/rabbitmq": {"rabbitmq"},
    f"{CONTRIB}/redis": {"redis"},
    f"{CONTRIB}/webhook": {"webhook"},
    f"{CONTRIB}/": {"influx", "nats", "rabbitmq", "redis", "webhook"},
    "plugins": {"examples"},
}
"""The extras that bring what the files of a folder import; one that ends with a slash is its own
files, without its folders."""
SHARED = {"opentelemetry": "opentelemetry-api", "opentelemetry.sdk": "opentelemetry-sdk"}
"""The distributions of a package that several share, by the beginning of a module's name."""
STARTED = {"flake8-async", "hypercorn", "pytest-trio"}
"""The distributions that Trivet or operators start, or pytest finds, and no file imports."""


def named(requirement: str) -> str:
    """The distribution that a requirement names, as indexes write it."""
    return canonicalize_name(Requirement(requirement).name)


def listed(extra: str) -> set[str]:
    """The distributions that an extra lists itself; those of all, by the name of none."""
    requirements = (
        PROJECT["dependencies"] if extra == "" else PROJECT["optional-dependencies"][extra]
    )
    return {named(requirement) for requirement in requirements} - {"trivet"}


def grouped(group: str) -> set[str]:
    """The distributions that a dependency group lists, and those that it includes."""
    names: set[str] = set()
    for entry in PYPROJECT["dependency-groups"][group]:
        match entry:
            case {"include-group": included}:
                names |= grouped(included)
            case _:
                names.add(named(entry))
    return names


def imports(folder: str, *, but: str | None = None) -> set[str]:
    """The distributions that the files of a folder import from."""
    pattern = "*.py" if folder.endswith("/") else "**/*.py"
    files = [file for file in (ROOT / folder).glob(pattern) if but not in file.parts]
    assert files
    found = {module for file in files for module in imported(file)}
    shared = {_shared(module) for module in found}
    modules = {module.partition(".")[0] for module in found if not _shared(module)}
    foreign = modules - OURS - sys.stdlib_module_names - {file.stem for file in files}
    # What is not installed for the tests has, in the benchmarks, its distribution's name.
    return {named(PROVIDERS.get(module, [module])[0]) for module in foreign} | (shared - {""})


def _shared(module: str) -> str:
    """The distribution of a module in a shared package; empty for others."""
    begin = ".".join(module.split(".")[:2])
    return SHARED.get(begin) or SHARED.get(module.partition(".")[0], "")


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports by their full name, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module
            case ast.Call(func=ast.Name("import_module"), args=[ast.Constant(str(module))]):
                yield module
            case _:
                pass


@pytest.mark.parametrize("folder", EXTRAS)
def test_what_is_imported_is_declared(folder: str) -> None:
    """Every imported package is a declared dependency, and not merely a dependency's own."""
    assert imports(folder) - listed("").union(*map(listed, EXTRAS[folder])) == set()


@pytest.mark.parametrize(
    ("group", "folder", "but"), [("test", "tests", "bench"), ("bench", "tests/bench", None)]
)
def test_what_the_tests_import_is_declared(group: str, folder: str, but: str | None) -> None:
    """Tests import only Trivet's own dependencies and extras, and their group's."""
    ours = set[str]().union(*map(listed, ("", *PROJECT["optional-dependencies"])))
    assert imports(folder, but=but) - ours - grouped(group) == set()


def test_every_folder_has_its_extras() -> None:
    """Every connector's package is in the table of folders and extras, and so checked here."""
    folders = {f"{CONTRIB}/{path.parent.name}" for path in (ROOT / CONTRIB).glob("*/__init__.py")}
    assert folders | {f"{CONTRIB}/"} == {name for name in EXTRAS if name.startswith(CONTRIB)}


@pytest.mark.parametrize("extra", ["", *PROJECT["optional-dependencies"]])
def test_what_is_declared_is_imported(extra: str) -> None:
    """Every declared dependency is imported, or started, by a folder that has it."""
    users = [folder for folder, extras in EXTRAS.items() if extra in {"", *extras}]
    assert listed(extra) - STARTED - set[str]().union(*map(imports, users)) == set()


def requirements() -> Iterator[Requirement]:
    """Everything that Trivet, its extras and its dependency groups list."""
    extras: dict[str, list[str]] = PROJECT["optional-dependencies"]
    groups: dict[str, list[Any]] = PYPROJECT["dependency-groups"]
    for listing in (PROJECT["dependencies"], *extras.values(), *groups.values()):
        for entry in listing:
            if isinstance(entry, str) and named(entry) != "trivet":
                yield Requirement(entry)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_what_is_asked_for(python: str) -> None:
    """Every requirement in `pyproject.toml` has a locked version; `nox -s lock` renews them."""
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    pins = [Requirement(line) for line in LOCK.read_text().splitlines() if line[0] != "#"]
    locked = {
        canonicalize_name(pin.name): pin.specifier
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(here)
    }
    for requirement in requirements():
        (pin,) = locked.get(canonicalize_name(requirement.name), [None])
        assert pin is not None, f"{requirement} is not locked"
        assert requirement.specifier.contains(pin.version, prereleases=True), requirement
