"""The table of a library's inside, compared with Trivet's classes and with the library."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import ModuleType

Table = Mapping[type, tuple[str, ...]]

_OF_EVERY_CLASS = {
    "__abstractmethods__",
    "__annotations__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
}
"""The names that Python gives to a class."""


def rows(*tables: Table) -> set[tuple[type, str]]:
    """The rows of some tables."""
    return {(owner, name) for table in tables for owner, names in table.items() for name in names}


def signature(function: Callable[..., object]) -> str:
    """The parameters of a function, without their types, and whether it is a coroutine."""
    bare = inspect.Signature(
        [
            parameter.replace(annotation=inspect.Parameter.empty, default=_plain(parameter.default))
            for parameter in inspect.signature(function).parameters.values()
        ]
    )
    return f"{'async ' if inspect.iscoroutinefunction(function) else ''}{bare}"


def _plain(default: object) -> object:
    """A default that is written alike in each version; others are three dots."""
    is_plain = default is None or isinstance(default, (bool, int, str))
    return default if is_plain or default is inspect.Parameter.empty else ...


def signatures(*tables: Table) -> str:
    """The signature of each method in some tables, one a line; class attributes are left out."""
    lines = [
        f"{owner.__name__}.{name}{' ' if found.startswith('async') else ''}{found}"
        for owner, name in sorted(rows(*tables), key=lambda row: (row[0].__name__, row[1]))
        for member in [inspect.getattr_static(owner, name, None)]
        if inspect.isfunction(member)
        for found in [signature(member)]
    ]
    return "\n".join(lines)


def missing(*tables: Table) -> set[tuple[type, str]]:
    """The rows of some tables that the library does not have."""
    return {(owner, name) for owner, name in rows(*tables) if name not in attributes(owner)}


@cache
def attributes(owner: type) -> set[str]:
    """The attributes of a class and of its instances, as far as the class's text shows them."""
    found = set(dir(owner))
    for each in owner.__mro__[:-1]:
        found |= set(inspect.get_annotations(each))
        if each.__module__ != "builtins":
            found |= assigned(tree(each))
    return found


def subclasses(*modules: ModuleType) -> Iterator[tuple[type, type]]:
    """The classes of Trivet's in some modules that have a foreign base, each with that base."""
    for module in modules:
        for member in vars(module).values():
            if isinstance(member, type) and member.__module__ == module.__name__:
                base = next(each for each in member.__mro__ if not _is_ours(each))
                if base.__module__ not in ("abc", "builtins", "typing"):
                    yield member, base


def _is_ours(owner: type) -> bool:
    return owner.__module__.startswith("trivet.")


def overridden(*modules: ModuleType) -> set[tuple[type, str]]:
    """The names that the classes in some modules override, each with the foreign base."""
    return {
        (base, name)
        for subclass, base in subclasses(*modules)
        for name in vars(subclass)
        if name not in _OF_EVERY_CLASS
        and getattr(base, name, None) is not getattr(object, name, None)
        and hasattr(base, name)
    }


def used(*modules: ModuleType) -> set[tuple[type, str]]:
    """The attributes that the classes in some modules use of `self`, and do not define."""
    return {
        (base, node.attr)
        for subclass, base in subclasses(*modules)
        for node in ast.walk(tree(subclass))
        if isinstance(node, ast.Attribute)
        and _is_self(node.value)
        and node.attr not in vars(subclass)
        and node.attr not in inspect.get_annotations(subclass)
        and (node.attr not in assigned(tree(subclass)) or node.attr in attributes(base))
    }


@cache
def tree(owner: type) -> ast.AST:
    """The syntax tree of a class."""
    return ast.parse(textwrap.dedent(inspect.getsource(owner)))


def assigned(text: ast.AST) -> set[str]:
    """The attributes that are assigned to somewhere."""
    return {
        node.attr
        for node in ast.walk(text)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


def _is_self(node: ast.expr) -> bool:
    """Whether an expression is `self` or `super()`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id == "self"
