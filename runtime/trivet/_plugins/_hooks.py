"""The names and methods of an author's plugin class, compared with Trivet's base classes.

Owns the refusal of a name that hides one of Trivet's, of a method that Trivet could not call, and
the search for misspelt methods. `_definition` refuses other faults of a class body, and
`_program._inspection` classes that are unfinished or clash with another.
Never knows settings, nor when the methods are called.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from types import FunctionType, UnionType
from typing import Any, Generic, Union, get_args, get_origin, get_type_hints

import attrs

from .._events._event import Event, owner_of, place_of
from .._events._event_class import qualified_name
from .._faults._errors import DefinitionError
from .._inbox._batching import Batch

SET_BY_TRIVET = {
    "app": "the program",
    "log": "the plugin's logger",
    "inbox": "where the plugin's events arrive",
    "_trivet": "Trivet's own side of the plugin",
}
"""The attributes that Trivet sets on every plugin, with their meanings for messages."""

HOOKS = (
    "initialize",
    "run",
    "close",
    "wants",
    "handle_event",
    "handle_batch",
    "flush_points",
    "send_events",
)
"""The methods that an author writes and Trivet calls."""
AWAITED = tuple(name for name in HOOKS if name != "wants")
"""The hooks that Trivet awaits."""

_NAMES_ELSEWHERE = {
    "initialize": "setup set_up init on_init start on_start startup on_startup on_load",
    "close": "teardown tear_down stop on_stop shutdown on_shutdown cleanup clean_up aclose on_close"
    " on_unload dispose terminate",
    "run": "main on_run run_forever",
    "wants": "filter accepts should_handle is_wanted",
    "handle_event": "handle on_event process process_event on_message handle_message consume",
    "handle_batch": "on_batch process_batch handle_events",
}
"""The names that hooks have in other systems, by their names here."""


_PYTHONS_BASES = (object, ABC, Generic)
"""Base classes without an author's methods."""


def _is_trivets(cls: type) -> bool:
    return cls.__module__.startswith("trivet.")


@cache
def _merged_attributes(bases: tuple[type, ...]) -> dict[str, object]:
    """The attributes of these classes in one mapping; an earlier class overrides a later one."""
    merged: dict[str, object] = {}
    for base in reversed(bases):
        merged |= vars(base)
    return merged


def trivets_attribute(cls: type, name: str) -> object:
    """The attribute that a class has from Trivet's own base classes; None without one."""
    bases = tuple(base for base in cls.__mro__ if _is_trivets(base))
    return _merged_attributes(bases).get(name)


def is_defined_by_author(cls: type, name: str) -> bool:
    """Whether the author's class, and not Trivet's, defines the attribute."""
    owner = owner_of(cls, name)
    return owner is not object and not _is_trivets(owner)


def check_names(cls: type) -> None:
    """Raise for a name in a class body that hides one of Trivet's.

    A method may override a method. Trivet would call a setting, or another value, in its place.
    """
    if _is_trivets(cls):
        return
    annotations = inspect.get_annotations(cls)
    for name in dict.fromkeys([*annotations, *vars(cls)]):
        meaning = SET_BY_TRIVET.get(name)
        if meaning is not None:
            raise DefinitionError(
                f"{qualified_name(cls)}.{name}: `self.{name}` is {meaning}, which Trivet sets; "
                "choose another name"
            )
        base = trivets_attribute(cls, name)
        if _hides(base, vars(cls).get(name), is_field=name in annotations):
            raise DefinitionError(
                f"{qualified_name(cls)}.{name}: `{name}` is {_kind(base)} of every such plugin; "
                "choose another name"
            )


def check_instance(plugin: object) -> None:
    """Raise for an attribute that the author's code has set over one of Trivet's methods."""
    cls = type(plugin)
    for name, value in vars(plugin).items():
        if callable(value) or not callable(getattr(cls, name, None)):  # Quick, for most of them.
            continue
        if isinstance(trivets_attribute(cls, name), FunctionType):
            raise DefinitionError(
                f"{qualified_name(cls)}: `self.{name} = …` hides a method of every such "
                "plugin; choose another name"
            )


def _kind(base: object) -> str:
    return "a property" if isinstance(base, property) else "a method"


def _hides(base: object, value: object, *, is_field: bool) -> bool:
    if isinstance(base, property):
        return is_field or not isinstance(value, property)
    if isinstance(base, FunctionType):
        is_method = callable(value) or isinstance(value, (staticmethod, classmethod))
        return is_field or not is_method
    return False


def check_methods(cls: type) -> None:
    """Raise for a method that Trivet calls, but could not call or await as it is written."""
    if _is_trivets(cls):
        return
    for name, value in vars(cls).items():
        base = trivets_attribute(cls, name)
        if isinstance(value, FunctionType) and isinstance(base, FunctionType):
            method = inspect.unwrap(value)
            fault = _misfit(name, base, method) if isinstance(method, FunctionType) else None
            if fault is not None:
                raise DefinitionError(f"{qualified_name(cls)}.{name}: {fault}", place_of(method))


def _misfit(name: str, base: FunctionType, method: FunctionType) -> str | None:
    """The fault of a method that cannot stand for `base`, with the right way to write it."""
    is_async = inspect.iscoroutinefunction(base)
    right = f"`{'async ' if is_async else ''}def {name}{_parameters(base)}`"
    if inspect.isasyncgenfunction(method) or (is_async and inspect.isgeneratorfunction(method)):
        return f"it has a `yield`, so that it cannot be awaited; write {right} without one"
    if inspect.iscoroutinefunction(method) and not is_async:
        return f"its result is needed at once, so it cannot be async; write {right}"
    if is_async and not inspect.iscoroutinefunction(method):
        return f"write {right}"
    try:
        names, by_keyword = _arguments(base)
        inspect.signature(method).bind(*names, **dict.fromkeys(by_keyword))
    except TypeError:
        hint = "; settings are annotated fields of the class" if name == "__init__" else ""
        return f"it is called with other arguments; write {right}{hint}"
    return None


def _parameters(function: FunctionType) -> str:
    names, by_keyword = _arguments(function)
    return f"({', '.join([*names, *(['*', *by_keyword] if by_keyword else [])])})"


def _arguments(function: FunctionType) -> tuple[list[str], list[str]]:
    """The names of a function's parameters: those by position, and those by keyword only."""
    parameters = inspect.signature(function).parameters.values()
    by_keyword = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    return [each.name for each in parameters if each.name not in by_keyword], by_keyword


@attrs.frozen
class NearMiss:
    """A method that looks as if Trivet called it, but that nothing calls."""

    written: str
    """The name of the method."""
    meant: str
    """The name of the method that Trivet calls."""
    is_certain: bool
    """Whether the name is surely a misspelling; otherwise it is another system's, or doubtful."""


def near_misses(cls: type) -> Iterator[NearMiss]:
    """The author's unused methods that are named nearly like a hook, or like another system's."""
    unused = [
        (written, value)
        for base in cls.__mro__
        if not (base in _PYTHONS_BASES or _is_trivets(base))
        for written, value in vars(base).items()
        if written[0] != "_" and isinstance(value, FunctionType)
        if _is_unused(base, written, value)
    ]
    if not unused:  # As in most classes.
        return
    hooks = [
        name
        for name in HOOKS
        if trivets_attribute(cls, name) and not is_defined_by_author(cls, name)
    ]
    for written, method in unused:
        meant = _hook_meant(written, hooks)
        if meant is not None and _fits_hook(cls, meant, method):
            is_certain = len(meant) > 4 and bool(_misspelt_hooks(written, [meant]))
            yield NearMiss(written, meant, is_certain)


def _is_unused(cls: type, name: str, method: FunctionType) -> bool:
    """Whether the module never mentions the method, and no decorator has marked it."""
    if vars(method) or trivets_attribute(cls, name):
        return False
    module = inspect.getmodule(cls)
    try:
        source = inspect.getsource(module) if module else ""
    except (OSError, TypeError):
        return False
    return bool(source) and re.search(rf"\.{name}\b", source) is None


def _hook_meant(written: str, hooks: list[str]) -> str | None:
    elsewhere = [hook for hook in hooks if written in _NAMES_ELSEWHERE.get(hook, "").split()]
    return next(iter([*_misspelt_hooks(written, hooks), *elsewhere]), None)


def _misspelt_hooks(written: str, hooks: list[str]) -> list[str]:
    """The hooks that this name misspells; a name such as `closed` is a question, and none."""
    plain = {hook.replace("_", ""): hook for hook in hooks}
    word = written.replace("_", "").lower()
    if word.endswith("ed"):
        return []
    return [plain[close] for close in get_close_matches(word, plain, n=1, cutoff=0.8)]


def _fits_hook(cls: type, hook: str, method: FunctionType) -> bool:
    base = trivets_attribute(cls, hook)
    if not isinstance(base, FunctionType):
        return False
    try:
        names, by_keyword = _arguments(base)
        inspect.signature(method).bind(*names, **dict.fromkeys(by_keyword))
    except TypeError:
        return False
    return inspect.iscoroutinefunction(method) or not inspect.iscoroutinefunction(base)


def misannotated(cls: type, listens_to: tuple[type[Event], ...]) -> str | None:
    """The fault of a handler whose annotation excludes an event that the class listens to."""
    for name in ("wants", "handle_event", "handle_batch") if listens_to else ():
        taken = _events_taken(cls, name) if is_defined_by_author(cls, name) else ()
        for listened in listens_to:
            if taken and not issubclass(listened, taken):
                other = " | ".join(event.__name__ for event in taken)
                return (
                    f"it listens to {listened.__name__}, but its {name} takes {other}; "
                    "let them be the same"
                )
    return None


def _events_taken(cls: type, name: str) -> tuple[type[Event], ...]:
    """The event types in a handler's annotation; none where it has others than event types."""
    method = inspect.unwrap(getattr(cls, name))
    try:
        parameter = list(inspect.signature(method).parameters)[1]
        taken: Any = get_type_hints(method)[parameter]
    except (IndexError, KeyError, NameError, TypeError, AttributeError):
        return ()  # Without an annotation, or with one that only a type checker understands.
    if get_origin(taken) is Batch:
        (taken,) = get_args(taken)
    members = get_args(taken) if get_origin(taken) in (Union, UnionType) else (taken,)
    events = [each for each in members if isinstance(each, type) and issubclass(each, Event)]
    return tuple(events) if len(events) == len(members) else ()
