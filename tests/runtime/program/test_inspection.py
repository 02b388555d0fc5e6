"""Classes that a program takes or refuses, alone and beside one another."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, NoReturn, TypeVar, cast

import pytest

from trivet import (
    BackgroundPlugin,
    ConfigurationError,
    Event,
    EventPlugin,
    MonitoringPlugin,
    Plugin,
    SendingEvent,
    Settings,
    SourcePlugin,
    websocket_route,
)
from trivet._program._loader import load

from ..places import line_of
from .classes import with_route
from .directories import TEAPOT, Directory, names, refusal

E = TypeVar("E", bound=Event)


# Plugin classes.


def test_a_module_without_a_plugin_is_refused(directory: Directory) -> None:
    """A file that only imports plugins defines none."""
    file = directory.write("kitchen.py", "class _Private(BackgroundPlugin): ...")
    assert directory.fault("kitchen").startswith(f"{file}: no plugin is defined here")


def test_every_plugin_of_a_module_is_activated(directory: Directory) -> None:
    """Two plugins in one file are two plugins, in the order of their definition."""
    directory.write("kitchen.py", TEAPOT + "class Cup(BackgroundPlugin): ...\nAlias = Cup")
    assert names(directory.load("kitchen")) == ["teapot", "cup"]


def test_unfinished_base(directory: Directory) -> None:
    """A base class whose methods its subclass writes is not a plugin of its own."""
    directory.write(
        "kitchen.py",
        """
        from typing import NoReturn, TypeVar
        E = TypeVar("E", bound=Event)
        class Base(MonitoringPlugin): ...
        class Exporter(Base):
            async def flush_points(self, points): ...
        class Logger(EventPlugin[E]):
            async def handle_event(self, event): ...
        class Audit(Logger[SendingEvent]): ...
        """,
    )
    assert names(directory.load("kitchen")) == ["exporter", "audit"]


def test_unfinished_class(directory: Directory) -> None:
    """An unwritten method is reported with the class's file and line."""
    file = directory.write("kitchen.py", "class Exporter(MonitoringPlugin): ...")
    said = directory.fault("kitchen")
    assert said == f"{file}:4 (Exporter): still to be written: flush_points"


class Unwritten(EventPlugin[SendingEvent]):
    pass


class Deaf(EventPlugin[E]):
    async def handle_event(self, event: E) -> None: ...


class Fetch(SourcePlugin):
    pass


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Unwritten, "still to be written: handle_event"),
        (Fetch, "still to be written: run"),
        (Deaf, "it listens to nothing: derive it from EventPlugin[YourEvent]"),
    ],
)
def test_a_given_class_has_to_be_finished(cls: type[Plugin], said: str) -> None:
    """Classes that an embedder gives are checked as those of files are."""
    assert said in refusal([cls])
    assert __file__ in refusal([cls])


def test_class_without_source() -> None:
    """A class without a file is reported by its module and name."""
    cls = type("Unseen", (MonitoringPlugin,), {"__module__": "nowhere"})
    assert refusal([cls]).startswith("nowhere.Unseen: still to be written")


@pytest.mark.parametrize("word", ["name", "needs", "supervision", "delivery", "listens_to"])
def test_reserved_settings(directory: Directory, word: str) -> None:
    """An annotation on an attribute of Trivet's is refused: it would make a setting of it."""
    directory.write("kitchen.py", f"class Teapot(BackgroundPlugin):\n    {word}: object = None")
    assert f"{word!r} has an annotation" in directory.fault("kitchen")


def test_a_plugins_name_has_to_fit_a_table(directory: Directory) -> None:
    """A name that no `[plugins.NAME]` can have is refused."""
    directory.write("kitchen.py", "class Teapot(BackgroundPlugin):\n    name = 'a.b'")
    assert "letters, digits, '-' and '_' only, not 'a.b'" in directory.fault("kitchen")


def test_two_plugins_of_one_name(directory: Directory) -> None:
    """Two plugins of one name are refused, and the error shows both places."""
    one, two = directory.write("one.py", TEAPOT), directory.write("two.py", TEAPOT)
    said = directory.fault("one", "two")
    assert said == f"two plugins are named 'teapot': {one}:5 (Teapot) and {two}:5 (Teapot)"


def test_needs_as_a_string(directory: Directory) -> None:
    """A string in place of a tuple is refused, since each of its letters would be a plugin."""
    directory.write("kitchen.py", 'class Teapot(BackgroundPlugin):\n    needs = ("cup")')
    assert "write `needs = ('cup',)`" in directory.fault("kitchen")


def test_missing_asyncio_extra(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin on asyncio is refused at load where the extra is missing; its class imports."""
    directory.write(
        "courier.py",
        """
        class Courier(AsyncioPlugin, BackgroundPlugin):
            pass
        """,
    )
    assert directory.load("courier").plugins[0].cls.name == "courier"

    def nothing_installed(name: str) -> None:
        """Find no module, as `find_spec` does for one that is not installed."""

    monkeypatch.setattr("trivet._program._inspection.find_spec", nothing_installed)
    fault = directory.fault("courier")
    assert "courier.py" in fault
    assert "pip install 'trivet[asyncio]'" in fault


# Event types.


class Order(Event):
    number: str


class OrderPlaced(Order):
    total: float = 0.0


class Unrelated(Event):
    pass


class Everything(EventPlugin[Event]):
    async def handle_event(self, event: Event) -> None: ...


class Placed(EventPlugin[OrderPlaced]):
    async def handle_event(self, event: OrderPlaced) -> None: ...


def test_a_plugins_module_brings_its_event_types(directory: Directory) -> None:
    """Public event types of an active file and of the helpers that it imports are known."""
    directory.write("_types.py", "class Poured(Event): ...")
    directory.write(
        "kitchen.py",
        "from . import _types\nclass _Base(Event): ...\nclass Boiled(_Base): ...\n" + TEAPOT,
    )
    assert sorted(directory.load("kitchen").events) == [
        "boiled",
        "monitoring_event",
        "operator_action_event",
        "plugin_status_event",
        "poured",
        "sending_event",
    ]


def test_listened_types_are_known() -> None:
    """A type that only a subscriber names is a type of the program; `Event` itself is not."""
    program = load(Settings(), plugins=[Placed, Everything])
    assert program.events.get("order_placed") is OrderPlaced
    assert program.events.get("event") is None


def test_a_module_name_is_no_event_class() -> None:
    """A name where an embedder gives a class is refused, with the place for names."""
    with pytest.raises(ConfigurationError, match="'tally' is no event class"):
        load(Settings(), event_types=cast("Any", ["tally"]))


def test_a_file_that_is_loaded_twice(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that two imports load makes two classes; the error says so, and how to avoid it."""
    file = directory.write("cup_again.py", TEAPOT + "class Boiled(Event): ...")
    monkeypatch.setattr(sys, "path", [str(directory.path), *sys.path])
    boiled = import_module(file.stem).Boiled
    with pytest.raises(ConfigurationError) as caught:
        load(directory.settings("cup_again"), event_types=[boiled])
    said = str(caught.value)
    place = f"{file}:{line_of(file, 'class Boiled')} (Boiled)"
    assert said.count(place) == 1
    assert "loaded twice, as 'cup_again' and as 'trivet_plugins.cup_again'" in said
    assert "runtime.events['boiled']" in said


def test_two_event_types_of_one_name(directory: Directory) -> None:
    """Two event types of one name are refused, and the error shows both places."""
    one = directory.write("one.py", TEAPOT + "class Boiled(Event): ...")
    two = directory.write("two.py", "class Cup(BackgroundPlugin): ...\nclass Boiled(Event): ...")
    said = directory.fault("one", "two")
    assert "two event types are named 'boiled'" in said
    assert f"{one}:{line_of(one, 'class Boiled')} (Boiled)" in said
    assert f"{two}:{line_of(two, 'class Boiled')} (Boiled)" in said


# Routes.


@pytest.mark.parametrize(
    ("one", "two", "clash"),
    [
        (("/a", "GET"), ("/a", "GET"), True),
        (("/a", "GET"), ("/a", "POST"), False),
        (("/a", "GET", "POST"), ("/a", "POST"), True),
        (("/a/<x>", "GET"), ("/a/<y>", "GET"), True),
        (("/a/<x>", "GET"), ("/a/<string:y>", "GET"), True),
        (("/a/<int:x>", "GET"), ("/a/<int:y>/b", "GET"), False),
        (("/a/<int:x>", "GET"), ("/a/<y>", "GET"), False),
    ],
)
def test_two_plugins_with_one_route(
    one: tuple[str, ...], two: tuple[str, ...], clash: bool
) -> None:
    """A path with a method belongs to one plugin, however its variables are named."""
    classes = [with_route("One", *one), with_route("Two", *two)]
    if clash:
        said = refusal(classes)
        assert said.startswith(f"one route twice, {two[1]} {two[0]}: 'one'")
        assert "'two'" in said
    else:
        assert names(load(Settings(), plugins=classes)) == ["one", "two"]


def test_the_check_of_routes_reads_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of a class is looked up for an error only: to find it reads the whole file."""
    plugin = with_route("One", "/one", "GET")

    def unreadable(cls: type) -> NoReturn:
        raise AssertionError(f"the source of {cls} is read")

    monkeypatch.setattr("trivet._events._event.inspect.getsourcelines", unreadable)
    assert names(load(Settings(), plugins=[plugin])) == ["one"]


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz",
        "/plugins",
        "/openapi.json",
        "/asyncapi.json",
        "/events",
        "/events/",
        "/events/<name>",
        "/events/mine",
        "/sign-in",
        "/sign-out",
        "/-/mine",
    ],
)
def test_trivets_own_paths_are_refused(path: str) -> None:
    """A plugin's route cannot replace a probe or the ingest of events."""
    said = refusal([with_route("One", path, "GET")])
    assert said.startswith("'one'")
    assert f"declares {path}, which is Trivet's own" in said


def test_websockets_clash_with_websockets() -> None:
    """Two websockets at one path are refused; a websocket and a request's route may share one."""

    class Listens(BackgroundPlugin):
        @websocket_route("/a/<x>")
        async def listen(self, x: str) -> None:
            return None

    class Clashes(BackgroundPlugin):
        @websocket_route("/a/<y>")
        async def listen(self, y: str) -> None:
            return None

    class Probes(BackgroundPlugin):
        @websocket_route("/readyz")
        async def listen(self) -> None:
            return None

    said = refusal([Listens, Clashes])
    assert said.startswith("one route twice, websocket /a/<y>: 'listens'")
    assert "declares /readyz, which is Trivet's own" in refusal([Probes])
    program = load(Settings(), plugins=[Listens, with_route("Two", "/a/<x>", "GET")])
    assert names(program) == ["listens", "two"]


@pytest.mark.parametrize("path", ["/a/<x", "/a/<int x>", "/a/<nope:x>", "/a/<x>/<x>"])
def test_malformed_paths_are_refused(path: str) -> None:
    """A path that Quart cannot make a rule of is refused before anything starts."""
    said = refusal([with_route("One", path, "GET")])
    assert said.startswith("'one'")
    assert f"declares {path}, which is no path: " in said


def test_paths_beside_trivets_own_are_free() -> None:
    """Only the reserved paths themselves are refused, and none below them."""
    program = load(Settings(), plugins=[with_route("One", "/events/mine/today", "GET")])
    assert names(program) == ["one"]
