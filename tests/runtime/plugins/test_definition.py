"""The body of a plugin class: its name, events, settings and LUNA's spelling."""

from __future__ import annotations

from types import new_class
from typing import Any, Generic, TypeVar, Union

import attrs
import pytest

from trivet import (
    BackgroundPlugin,
    DefinitionError,
    Event,
    EventPlugin,
    EventSendingPlugin,
    MonitoringEvent,
    MonitoringPlugin,
    SendingEvent,
    SourcePlugin,
)
from trivet._program._inspection import missing_methods

from .stubs import Ping, Pong

E = TypeVar("E", bound=Event)


def test_a_plugin_is_named_after_its_class() -> None:
    """The class's name in snake case is the default `name`, which a subclass does not inherit."""

    class HTTPExporter(BackgroundPlugin):
        pass

    class Named(BackgroundPlugin):
        name = "boiler"

    class Special(Named):
        pass

    assert (HTTPExporter.name, Named.name, Special.name) == ("http_exporter", "boiler", "special")


def test_an_attrs_decorator_of_ones_own_is_refused() -> None:
    """An attrs decorator on a plugin class is refused as needless."""

    class Bare(EventPlugin[Ping]):
        limit: int = 3

    with pytest.raises(DefinitionError, match="Bare: a plugin is an attrs class by itself"):
        attrs.define(Bare)


@pytest.mark.parametrize("name", ["initialize", "run", "close", "handle_event"])
def test_awaited_methods_are_async(name: str) -> None:
    """A plain method in place of one that Trivet awaits is refused at once."""

    def not_async(self: Any) -> None: ...

    with pytest.raises(DefinitionError, match=rf"write `async def {name}\(self"):
        type("Sync", (MonitoringPlugin,), {name: not_async})


@pytest.mark.parametrize(
    ("name", "kind"), [("delivery", "DeliverySettings"), ("supervision", "SupervisionSettings")]
)
def test_a_policy_has_to_be_of_its_class(name: str, kind: str) -> None:
    """A dict in place of the settings' class is refused, with the right form."""
    with pytest.raises(DefinitionError, match=rf"write `{name} = {kind}\(…\)`"):
        type("Loose", (MonitoringPlugin,), {name: {"buffer": 3}})


def test_a_shared_default_is_refused() -> None:
    """A list that all instances would share is refused as a default, of private fields too."""
    with pytest.raises(DefinitionError, match=r"_seen: .*attrs.field\(factory=list\)"):

        class Leaky(BackgroundPlugin):  # pyright: ignore[reportUnusedClass]
            _seen: list[int] = []  # noqa: RUF012


# LUNA's spelling.


def define(base: Any, **body: object) -> type:
    """Define `class Ported(base)` with these names in its body."""
    return new_class("Ported", (base,), exec_body=lambda namespace: namespace.update(body))


def adds_a_route(self: Any, app: Any) -> None:
    """Declare one route in LUNA's way."""
    app.addRoute("/teapot", object)


def adds_routes(self: Any, app: Any) -> None:
    """Declare several routes in LUNA's way."""
    app.addRoutes([("/teapot", object)])


async def method(self: Any) -> None:
    """A method to be given any name."""


@pytest.mark.parametrize(
    ("body", "theirs", "ours"),
    [
        ({"eventName": "monitoring_event"}, "eventName", "EventPlugin[YourEvent], or `listens_to`"),
        ({"handleEvent": method}, "handleEvent", "handle_event(self, event)"),
        (
            {"flushPointToMonitoring": method},
            "flushPointToMonitoring",
            "flush_points(self, points)",
        ),
        ({"sendEvents": method}, "sendEvents", "send_events(self, event)"),
        ({"addRoute": method}, "addRoute", "@route(path)"),
        ({"addRoutes": method}, "addRoutes", "@route(path)"),
        ({"__init__": adds_a_route}, "addRoute", "@route(path)"),
        ({"__init__": adds_routes}, "addRoutes", "@route(path)"),
        ({"start": method}, "start", "run(self)"),
    ],
)
def test_lunas_spelling(body: dict[str, object], theirs: str, ours: str) -> None:
    """Each of LUNA's names is refused at the creation of a class, with the name here."""
    with pytest.raises(DefinitionError) as caught:
        define(BackgroundPlugin, __module__=__name__, **body)
    assert str(caught.value).startswith(f"{__name__}.Ported: LUNA's {theirs!r} is here {ours}")


@pytest.mark.parametrize(
    "base", [BackgroundPlugin, SourcePlugin, EventPlugin, MonitoringPlugin, EventSendingPlugin]
)
def test_lunas_spelling_in_every_kind(base: type) -> None:
    """LUNA's `eventName` is refused whatever the class derives from."""
    with pytest.raises(DefinitionError, match="LUNA's 'eventName' is here"):
        define(base, eventName="monitoring_event")


def test_start_is_a_name_like_others_beside_run() -> None:
    """A background plugin that has `run` may have a method `start` of its own."""
    running = define(BackgroundPlugin, start=method, run=method)
    assert issubclass(define(running, start=method), BackgroundPlugin)
    assert issubclass(define(EventPlugin[Ping], start=method), EventPlugin)


# Event types.


def test_the_event_stands_in_the_brackets() -> None:
    """The brackets hold one event type, or a union of several."""

    class One(EventPlugin[Ping]):
        pass

    class Two(EventPlugin[Ping | Pong]):
        pass

    class OldTwo(EventPlugin[Union[Ping, Pong]]):  # noqa: UP007
        pass

    class All(EventPlugin[Event]):
        pass

    assert One.listens_to == (Ping,)
    assert Two.listens_to == OldTwo.listens_to == (Ping, Pong)
    assert All.listens_to == (Event,)


def test_listens_to() -> None:
    """`listens_to` names the event types where the brackets do not."""

    class Several(EventPlugin):  # type: ignore[type-arg]
        listens_to = (Ping, Pong)

    assert Several.listens_to == (Ping, Pong)


def test_brackets_and_listens_to() -> None:
    """Brackets and `listens_to` in one class are refused."""
    with pytest.raises(
        DefinitionError, match=r"Ported says twice .*EventPlugin\[…\].*`listens_to`"
    ):
        define(EventPlugin[Ping], listens_to=(Pong,))


def test_listening_to_nothing() -> None:
    """A base class that leaves the type to its subclasses listens to nothing itself."""

    class Base(EventPlugin[E], Generic[E]):
        pass

    class Filled(Base[Pong]):
        pass

    class Plain(EventPlugin):  # type: ignore[type-arg]
        pass

    assert Base.listens_to == Plain.listens_to == ()
    assert Filled.listens_to == (Pong,)


def test_inherited_events() -> None:
    """A subclass inherits its base's event types, or names others."""

    class Base(EventPlugin[Ping]):
        pass

    class Same(Base):
        pass

    class Other(Base):
        listens_to = (Pong,)

    assert Same.listens_to == (Ping,)
    assert Other.listens_to == (Pong,)


def test_lunas_two_kinds_listen_to_lunas_events() -> None:
    """`MonitoringPlugin` and `EventSendingPlugin` have their event types."""
    assert MonitoringPlugin.listens_to == (MonitoringEvent,)
    assert EventSendingPlugin.listens_to == (SendingEvent,)


@pytest.mark.parametrize("wrong", [int, Any, BackgroundPlugin, Ping | int])
def test_only_events_stand_in_the_brackets(wrong: Any) -> None:
    """Another type in the brackets is an error that shows it."""
    with pytest.raises(DefinitionError, match=r"Ported listens to .*: not an event type"):
        define(EventPlugin[wrong])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Ping, r"`listens_to` is a tuple: write `\(Ping,\)`"),
        (("monitoring_event",), "listens to 'monitoring_event': not an event type; name a class"),
        ((Ping, int), "listens to <class 'int'>: not an event type; derive it from Event"),
        ((Ping(),), r"listens to Ping\(number=0\): not an event type; name a class"),
    ],
)
def test_listens_to_holds_event_types(wrong: object, says: str) -> None:
    """A lone type, a name, an instance or another type in `listens_to` is an error with advice."""
    with pytest.raises(DefinitionError, match=says):
        define(EventPlugin, listens_to=wrong)


# Unwritten methods.


def test_missing_methods_are_named() -> None:
    """The unwritten methods are the abstract ones, and `handle_event` where `run` is missing."""

    class Nothing(EventPlugin[Ping]):
        pass

    class Custom(EventPlugin[Ping]):
        async def run(self) -> None: ...

    class Usual(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None: ...

    class Inherited(Usual):
        pass

    assert missing_methods(Nothing) == ["handle_event"]
    assert missing_methods(Custom) == missing_methods(Usual) == missing_methods(Inherited) == []
    assert missing_methods(BackgroundPlugin) == []
    unfinished: list[type[Any]] = [MonitoringPlugin, EventSendingPlugin, SourcePlugin]
    assert [missing_methods(cls) for cls in unfinished] == [
        ["flush_points"],
        ["send_events"],
        ["run"],
    ]
