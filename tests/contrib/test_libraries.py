"""The undocumented names of libraries that the connectors count on."""

from __future__ import annotations

import dis
import importlib
import inspect
from collections.abc import Mapping
from inspect import Parameter, Signature

import pytest

import trivet_contrib.nats._library as nats_library
import trivet_contrib.rabbitmq._library as rabbitmq_library
import trivet_contrib.redis._library as redis_library
import trivet_contrib.webhook._library as webhook_library

TABLES: list[Mapping[str, str]] = [
    nats_library.INSIDE,
    rabbitmq_library.INSIDE,
    redis_library.INSIDE,
    webhook_library.INSIDE,
]


def signature_of(function: object) -> str:
    """The signature without types, and without the values of defaults."""
    assert callable(function)
    parameters = [
        each.replace(
            annotation=Parameter.empty,
            default=each.default if each.default is Parameter.empty else ...,
        )
        for each in inspect.signature(function).parameters.values()
    ]
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    return prefix + str(Signature(parameters)).replace("=Ellipsis", "=...")


def sets(cls: type, attribute: str) -> bool:
    """Whether a class, or a method of it, declares or sets the attribute."""
    declared = {name for base in cls.__mro__ for name in vars(base).get("__annotations__", {})}
    members = [each for base in cls.__mro__ for each in vars(base).values()]
    methods = [each for each in members if inspect.isfunction(each)]
    instructions = [each for method in methods for each in dis.get_instructions(method)]
    assigned = {each.argval for each in instructions if each.opname == "STORE_ATTR"}
    return hasattr(cls, attribute) or attribute in declared | assigned


@pytest.mark.parametrize(
    ("name", "expected"), [pair for table in TABLES for pair in table.items()], ids=str
)
def test_the_inside_of_a_library_is_as_expected(name: str, expected: str) -> None:
    """An upgrade that renames one of the names, or changes its signature, fails here."""
    module, _, path = name.partition(":")
    owner, _, attribute = path.partition(".")
    cls = getattr(importlib.import_module(module), owner)
    if expected == "attribute":
        assert sets(cls, attribute)
    else:
        assert signature_of(getattr(cls, attribute)) == expected
