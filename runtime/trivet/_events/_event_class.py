"""The class of event classes: attrs classes whose instances are made and kept by msgspec.

Owns which fields an event class has, in the terms of attrs and of msgspec, and the checks of a
class statement.
Never knows who listens, nor the events that Trivet itself has.

msgspec makes an event in a fraction of the time that an `__init__` in Python takes, and so it reads
one from JSON. All the rest is attrs': `attrs.fields`, validators, equality, hash, representation.
"""

from __future__ import annotations

import re
from abc import ABCMeta
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import msgspec

from .._faults._errors import DefinitionError, refuse_shared_default
from ._delivery_settings import DeliverySettings


def _class_of(value: object) -> type[Any]:
    return type(value)


FIELD = _class_of(attrs.field())
"""The class of what `attrs.field` returns in the body of a class."""
FACTORY = _class_of(attrs.Factory(dict[str, str]))
"""The class of a default that is made anew for each event."""

CLASS_VARIABLE = re.compile(r"['\"]?(\w+\.)?ClassVar\b")
"""An annotation, as text, of what is no field; attrs and msgspec know it by the same."""

REFUSED_METHODS = {
    "__init__": "is not called for an event that comes as JSON; write `__attrs_post_init__`",
    "__post_init__": "is for dataclasses; write `__attrs_post_init__`",
    "__attrs_pre_init__": "would come too late; write `__attrs_post_init__`",
}


def snake_case(name: str) -> str:
    """The default name of a class, for events and plugins alike.

    >>> snake_case("HTTPRequestMonitoring")
    'http_request_monitoring'
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def qualified_name(cls: type) -> str:
    """The place of a class, for messages: `module.QualifiedName`."""
    return f"{cls.__module__}.{cls.__qualname__}"


class EventClass(msgspec.StructMeta, ABCMeta):
    """The class of event classes; an event may have abstract base classes, too."""

    __validated__: tuple[Any, ...]
    """The fields that have a validator."""
    __has_end__: bool
    """Whether there is an `__attrs_post_init__`."""

    def __new__(
        mcls,
        cls_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        delivery: DeliverySettings | None = None,
        from_outside: bool | None = None,
        **config: Any,
    ) -> EventClass:
        """Make an event class; the keywords are those of its class statement.

        Raises:
            DefinitionError: the class cannot be an event type.
        """
        if not any(isinstance(base, EventClass) for base in bases):
            return super().__new__(mcls, cls_name, bases, namespace, **config)
        module, name_within = namespace.get("__module__", __name__), namespace.get("__qualname__")
        place = f"{module}.{name_within or cls_name}"
        if "__attrs_attrs__" in namespace:  # An author's own @attrs.frozen has made a copy.
            raise _needless_decorator(place)
        _refuse_names(cls_name, place, bases, namespace)
        event_name = snake_case(cls_name) if name is None else name
        if not re.fullmatch(r"[A-Za-z0-9._-]+", event_name):
            raise DefinitionError(
                f"{place}: an event's name has letters, digits, '.', '-' and '_' only, "
                f"not {event_name!r}"
            )
        cls = mcls._with_fields(cls_name, place, bases, namespace)
        cls.__event_name__ = event_name
        if delivery is not None:
            cls.__delivery__ = delivery
        if from_outside is not None:
            cls.__from_outside__ = from_outside
        return cls

    @classmethod
    def _with_fields(
        mcls,  # noqa: N804 - of a metaclass
        cls_name: str,
        place: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
    ) -> EventClass:
        """Make the class, with its fields as msgspec's and as attrs'."""
        fields = _fields(namespace)
        attributes = _attributes(place, fields, namespace)
        body = {**namespace, **_defaults(attributes)}
        validators = [each for each in attributes.values() if each.validator is not None]
        if validators or "__attrs_post_init__" in body or _has_end(bases):
            body["__post_init__"] = _finish
        annotations = namespace.get("__annotations__", {})
        by_keyword = [name for name, attribute in attributes.items() if attribute.kw_only]
        try:
            if by_keyword:  # msgspec has this for all fields of a class, or for none.
                others = {name: annotations[name] for name in annotations if name not in by_keyword}
                first = {name: body.pop(name) for name in others if name in body}
                first |= {"__module__": body.get("__module__", __name__), "__annotations__": others}
                bases = (super().__new__(mcls, cls_name, bases, first),)
                body["__annotations__"] = {name: annotations[name] for name in by_keyword}
            cls = super().__new__(mcls, cls_name, bases, body, kw_only=bool(by_keyword))
        except TypeError as error:
            raise DefinitionError(f"{place}: {error}") from error
        cls.__annotations__ = annotations
        own = [name for name in annotations if name in cls.__struct_fields__]
        _make_attrs(cls, {name: fields.get(name) or _field(name, namespace) for name in own})
        return cls

    def __setattr__(cls, name: str, value: object) -> None:
        if name in ("__dataclass_fields__", "__match_args__"):  # By a decorator.
            raise _needless_decorator(qualified_name(cls))
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if name in cls.__struct_fields__:  # By an attrs decorator with `slots=False`.
            raise _needless_decorator(qualified_name(cls))
        super().__delattr__(name)


if TYPE_CHECKING:

    @attrs.frozen(slots=False)
    class EventBase:
        """The base class of `Event`, as type checkers are to know it."""

        __event_name__: ClassVar[str]
        __delivery__: ClassVar[DeliverySettings]
        __from_outside__: ClassVar[bool]
        __listen_by_base__: ClassVar[bool]

        def __init_subclass__(
            cls,
            *,
            name: str | None = None,
            delivery: DeliverySettings | None = None,
            from_outside: bool | None = None,
        ) -> None: ...

else:

    class EventBase(msgspec.Struct, metaclass=EventClass, dict=True, weakref=True):
        """The base class of `Event`."""

        __delivery__ = DeliverySettings()
        __from_outside__ = True
        __listen_by_base__ = True
        """Whether a plugin that listens to a base class of this type listens to this type, too."""


def _needless_decorator(place: str) -> DefinitionError:
    return DefinitionError(
        f"{place}: an event is a frozen attrs class by itself; take its decorator away"
    )


def _refuse_names(
    cls_name: str, place: str, bases: tuple[type, ...], namespace: Mapping[str, Any]
) -> None:
    """Raise for a field or value whose name has another meaning."""
    annotations = namespace.get("__annotations__", {})
    for name in dict.fromkeys([*annotations, *namespace]):
        taken = name in annotations and name.startswith("__") and name.endswith("__")
        if taken or name in ("__event_name__", "__delivery__", "__from_outside__"):
            raise DefinitionError(
                f"{place}.{name}: names with two underscores are not for fields; an event's own "
                f"name is `class {cls_name}(Event, name=…)`"
            )
        if name in REFUSED_METHODS:
            raise DefinitionError(f"{place}.{name} {REFUSED_METHODS[name]}")
        if name not in annotations and _is_hidden(name, bases, namespace[name]):
            raise DefinitionError(f"{place}.{name} is a field: write its type, `{name}: …`")
    owners = [base for base in bases if getattr(base, "__struct_fields__", ())]
    if any(not issubclass(owners[0], base) for base in owners):
        names = " and ".join(base.__qualname__ for base in owners)
        raise DefinitionError(
            f"{place}: {names} have fields, and an event can have them from one base only; derive "
            "one of these from the other"
        )


def _is_hidden(name: str, bases: tuple[type, ...], value: object) -> bool:
    """Whether a value without a type would hide a field."""
    is_field = any(name in getattr(base, "__struct_fields__", ()) for base in bases)
    return isinstance(value, FIELD) or (is_field and not hasattr(type(value), "__get__"))


def _fields(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of which the body of a class says more than a type and a value."""
    return {
        name: value if isinstance(value, FIELD) else attrs.field(default=value)
        for name, value in namespace.items()
        if isinstance(value, (FIELD, FACTORY))
    }


def _field(name: str, namespace: Mapping[str, Any]) -> Any:
    """The field of a type, and a value or none."""
    return attrs.field(default=namespace[name]) if name in namespace else attrs.field()


def _attributes(
    place: str, fields: dict[str, Any], namespace: Mapping[str, Any]
) -> dict[str, attrs.Attribute[Any]]:
    """The same fields as attrs understands them."""
    for name, kind in namespace.get("__annotations__", {}).items():
        if not CLASS_VARIABLE.match(str(kind)):
            refuse_shared_default(place, name, namespace.get(name))
    if not fields:
        return {}
    made = attrs.make_class("Fields", fields, init=False, repr=False, eq=False)
    attributes = {attribute.name: attribute for attribute in attrs.fields(made)}
    for name, attribute in attributes.items():
        fault = _fault_of(attribute)
        if fault is not None:
            raise DefinitionError(f"{place}.{name}: {fault}")
        refuse_shared_default(place, name, attribute.default)
    return attributes


def _fault_of(attribute: attrs.Attribute[Any]) -> str | None:
    """The fault of a field that an event cannot have; None where all is well."""
    default: Any = attribute.default
    if attribute.converter is not None:  # pyright: ignore[reportUnknownMemberType]
        return (
            "a converter is not called for an event that comes as JSON; convert where the event "
            "is handled"
        )
    if isinstance(default, FACTORY) and default.takes_self:
        return "a default cannot depend on the event, which may come as JSON; make it a property"
    if not attribute.init:
        return "a field without `init` would be in the event's JSON all the same"
    if attribute.alias not in (attribute.name, attribute.name.lstrip("_")):
        return "an alias would not be the name in the event's JSON; rename the field"
    return None


def _defaults(attributes: Mapping[str, attrs.Attribute[Any]]) -> dict[str, Any]:
    """The defaults in msgspec's terms."""
    return {name: _default(attribute.default) for name, attribute in attributes.items()}


def _default(default: Any) -> Any:
    if isinstance(default, FACTORY):
        return msgspec.field(default_factory=default.factory)
    return msgspec.field() if default is attrs.NOTHING else msgspec.field(default=default)


def _make_attrs(cls: EventClass, fields: dict[str, Any]) -> None:
    """Make the class an attrs class, except that msgspec makes its instances."""

    def as_in_msgspec(
        _: type, attributes: list[attrs.Attribute[Any]]
    ) -> list[attrs.Attribute[Any]]:
        """The attributes in the order of the arguments, and by the names of these."""
        found = {attribute.name: attribute for attribute in attributes}
        return [found[name].evolve(alias=name) for name in cls.__struct_fields__]

    attrs.frozen(
        cls,
        these=fields,
        init=False,
        slots=False,
        match_args=False,
        field_transformer=as_in_msgspec,
    )
    # The methods of `Event` do the same, and its message names the event and the field. An event
    # has no `__init__`, under another name neither.
    for name in ("__setattr__", "__delattr__", "__attrs_init__"):
        delattr(cls, name)
    made: Any = cls
    cls.__validated__ = tuple(each for each in attrs.fields(made) if each.validator is not None)
    cls.__has_end__ = hasattr(cls, "__attrs_post_init__")


def _has_end(bases: tuple[type, ...]) -> bool:
    return any(hasattr(base, "__attrs_post_init__") for base in bases)


def _finish(event: Any) -> None:
    """Check an event that is just made, as attrs' own `__init__` does; msgspec calls this."""
    cls: Any = _class_of(event)
    if cls.__validated__ and not attrs.validators.get_disabled():
        for each in cls.__validated__:
            each.validator(event, each, getattr(event, each.name))
    if cls.__has_end__:
        event.__attrs_post_init__()
