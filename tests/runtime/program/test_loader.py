from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
from attrs.validators import ge, gt
from structlog.testing import capture_logs

from trivet import (
    BackgroundPlugin,
    ConfigurationError,
    DeliverySettings,
    Event,
    EventPlugin,
    MonitoringEvent,
    MonitoringPlugin,
    Plugin,
    SendingEvent,
    Settings,
    SourcePlugin,
    SupervisionSettings,
    load_settings,
    route,
    websocket_route,
)
from trivet._program._loader import PluginSpec, Program, load
from trivet_contrib.webhook import Webhook

from ..wording import refusal_of, said_by

HEADER = """\
from __future__ import annotations
import attrs
from trivet import *
"""

E = TypeVar("E", bound=Event)

TEAPOT = """
class Teapot(BackgroundPlugin):
    step: float = 1.0
    kind: str = "green"
"""


class Directory:
    """A plugins' directory in the making."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, file: str, text: str) -> Path:
        """Write a module that begins with the usual imports, in three lines."""
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + textwrap.dedent(text), encoding="utf-8")
        return path

    def settings(self, *names: str, **others: Any) -> Settings:
        return Settings(active_plugins=list(names), plugins_directory=self.path, **others)

    def load(self, *names: str, **settings: Any) -> Program:
        return load(self.settings(*names, **settings))

    def fault(self, *names: str, **settings: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.load(*names, **settings)
        return str(caught.value)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A plugins' directory, which is there as soon as something is written."""
    return Directory(tmp_path / "plugins")


def line_of(file: Path, needle: str) -> int:
    """The line of a file in which this stands first."""
    text = file.read_text("utf-8")
    return text[: text.index(needle)].count("\n") + 1


def names(program: Program) -> list[str]:
    """The plugins of a program."""
    return [spec.cls.name for spec in program.plugins]


def spec_of(cls: type[Plugin], table: Mapping[str, Any] | None = None, **more: Any) -> PluginSpec:
    """Load one class with its table of settings."""
    settings = Settings(plugins={cls.name: dict(table or {})})
    (spec,) = load(settings, plugins=[cls], **more).plugins
    return spec


def refusal(
    classes: Iterable[type[Plugin]], tables: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Load classes that should not load; what is said of them."""
    settings = Settings(plugins={name: dict(table) for name, table in (tables or {}).items()})
    with pytest.raises(ConfigurationError) as caught:
        load(settings, plugins=classes)
    return str(caught.value)


# Names and modules.


def test_nothing_active_is_a_program(directory: Directory) -> None:
    """Without plugins there is a program that knows the event types of its own."""
    program = directory.load()
    assert (program.plugins, program.tiers) == ((), ((), (), ()))
    assert sorted(program.events) == ["monitoring_event", "plugin_status_event", "sending_event"]


def test_the_home_of_a_plugin_is_where_its_code_is(directory: Directory) -> None:
    """Its module, with what is in that if it is a package; the package of a private module."""
    directory.write("kitchen.py", TEAPOT)
    (spec,) = directory.load("kitchen").plugins
    assert spec.home == "trivet_plugins.kitchen"
    assert attrs.evolve(spec, cls=Webhook).home == "trivet_contrib.webhook"


def test_a_file_is_activated_by_its_name(directory: Directory) -> None:
    """The file's name activates, the class's name is the plugin's."""
    directory.write("kitchen.py", TEAPOT)
    assert names(directory.load("kitchen")) == ["teapot"]


def test_a_folder_is_activated_by_its_name(directory: Directory) -> None:
    """A plugin may be a package, with its class in a module of its own."""
    directory.write("kitchen/__init__.py", "from ._teapot import Teapot")
    directory.write("kitchen/_teapot.py", TEAPOT)
    assert names(directory.load("kitchen")) == ["teapot"]


def test_a_file_does_not_shadow_a_library(directory: Directory) -> None:
    """`plugins/json.py` and the library `json` live side by side."""
    directory.write("json.py", "import json\nassert json.dumps\n" + TEAPOT)
    assert names(directory.load("json")) == ["teapot"]


def test_neighbours_import_each_other(directory: Directory) -> None:
    """A relative import works, and does not activate what is imported."""
    directory.write("kitchen.py", TEAPOT)
    directory.write("bar.py", "from .kitchen import Teapot\nclass Cup(BackgroundPlugin): ...")
    assert names(directory.load("bar")) == ["cup"]
    assert names(directory.load("bar", "kitchen")) == ["cup", "teapot"]


def test_a_directory_is_read_anew_each_time(directory: Directory) -> None:
    """Nothing of an earlier program's directory is left in the next."""
    directory.write("kitchen.py", TEAPOT + "\nclass Boiled(Event): ...")
    first = directory.load("kitchen")
    other = Directory(directory.path.parent / "other")
    other.write("kitchen.py", "class Kettle(BackgroundPlugin): ...")
    second = other.load("kitchen")
    assert (names(first), names(second)) == (["teapot"], ["kettle"])
    assert second.events.get("boiled") is None


def test_a_name_twice_is_one_plugin(directory: Directory) -> None:
    """Activated twice is activated."""
    directory.write("kitchen.py", TEAPOT)
    assert names(directory.load("kitchen", "kitchen")) == ["teapot"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("kitchen.py", "write it without .py: 'kitchen'"),
        ("sub/kitchen", "a name has no path in it"),
        ("../kitchen", "a name has no path in it"),
        ("..", "a name has no path in it"),
        ("sub\\kitchen", "a name has no path in it"),
        ("kit-chen", "letters, digits and underscores"),
        ("", "letters, digits and underscores"),
    ],
)
def test_a_name_that_is_none_is_refused(directory: Directory, name: str, hint: str) -> None:
    """What cannot be a module's name is refused with a hint, and not looked for."""
    directory.write("kitchen.py", TEAPOT)
    said = directory.fault(name)
    assert said.startswith(f"active_plugins: {name!r} is no plugin's name: ")
    assert hint in said


def test_a_misspelt_name_is_told_with_the_nearest(directory: Directory) -> None:
    """A name that is not there is an error with the directory and the nearest that is."""
    directory.write("kitchen.py", TEAPOT)
    said = directory.fault("kitchn")
    assert f"no plugin 'kitchn' in {directory.path}" in said
    assert "did you mean 'kitchen'?" in said


def test_helpers_are_not_suggested(directory: Directory) -> None:
    """A file with a leading underscore is nobody's plugin."""
    directory.write("_kitchen.py", TEAPOT)
    assert "_kitchen" not in directory.fault("kitchen")


def test_a_directory_that_is_not_there_is_told(directory: Directory) -> None:
    """The error about a missing plugin says that its directory is missing too."""
    assert "which does not exist" in directory.fault("kitchen")


def test_several_faults_of_names_are_told_at_once(directory: Directory) -> None:
    """Each active plugin that cannot be loaded has its line."""
    directory.write("kitchen.py", "1 / 0")
    lines = directory.fault("bar", "kitchen", "x.py").splitlines()
    assert ["'bar'" in lines[0], "ZeroDivisionError" in lines[1], "'x.py'" in lines[2]] == [
        True
    ] * 3


# Entry points.


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Install a distribution of one module, which an entry point names."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])

    def install(distribution: str, entry_point: str, text: str) -> None:
        module = entry_point.split(" = ")[1]
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0")
        (info / "entry_points.txt").write_text(f"[trivet.plugins]\n{entry_point}\n")
        (site / f"{module}.py").write_text(HEADER + text)

    return install


def test_an_entry_point_is_activated_by_its_name(
    directory: Directory, install: Callable[[str, str, str], None]
) -> None:
    """What another distribution brings is enabled as a file is."""
    install("trivet_kettle", "kettle = installed_kettle", TEAPOT + "\nclass Boiled(Event): ...")
    program = directory.load("kettle")
    assert names(program) == ["teapot"]
    assert program.events["boiled"].__module__ == "installed_kettle"


def test_a_file_beats_an_entry_point_with_a_warning(
    directory: Directory, install: Callable[[str, str, str], None]
) -> None:
    """Of a file and an entry point with one name the file is loaded, and the log says so."""
    install("trivet_kettle", "kettle = hidden_kettle", "1 / 0")
    file = directory.write("kettle.py", TEAPOT)
    with capture_logs() as logs:
        assert names(directory.load("kettle")) == ["teapot"]
    (entry,) = logs
    assert entry["log_level"] == "warning"
    assert (entry["name"], entry["file"], entry["hidden"]) == ("kettle", str(file), "hidden_kettle")


def test_two_entry_points_of_one_name_are_refused(
    directory: Directory, install: Callable[[str, str, str], None]
) -> None:
    """Nobody can tell which of two distributions is meant."""
    install("trivet_kettle", "kettle = one_kettle", TEAPOT)
    install("trivet_other", "kettle = other_kettle", TEAPOT)
    said = directory.fault("kettle")
    assert "two entry points are named 'kettle': one_kettle and other_kettle" in said


def test_an_entry_point_is_suggested(
    directory: Directory, install: Callable[[str, str, str], None]
) -> None:
    """Entry points are among the names that one may have meant."""
    install("trivet_kettle", "kettle = kettle_module", TEAPOT)
    assert "did you mean 'kettle'?" in directory.fault("kettl")


def test_a_fault_behind_an_entry_point_is_told_with_its_line(
    directory: Directory, install: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    """A distribution's module fails as a file does."""
    install("trivet_kettle", "kettle = failing_kettle", "1 / 0")
    assert directory.fault("kettle").startswith(f"{tmp_path}/site/failing_kettle.py:4: ")


def test_an_entry_point_without_its_module_is_told(
    directory: Directory, install: Callable[[str, str, str], None], tmp_path: Path
) -> None:
    """Where there is no line to show, the entry point is named."""
    install("trivet_kettle", "kettle = gone_kettle", "")
    (tmp_path / "site" / "gone_kettle.py").unlink()
    said = directory.fault("kettle")
    assert said.startswith("entry point kettle = gone_kettle: ModuleNotFoundError")


# What may fail in a module.


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("class Teapot(\n", 4, f"SyntaxError: {said_by(compile, 'class Teapot(', '', 'exec')}"),
        ("x = 1\ny = x / 0", 5, f"ZeroDivisionError: {said_by(lambda: 1 / 0)}"),
        (
            "import no_such_library",
            4,
            f"ModuleNotFoundError: {said_by(import_module, 'no_such_library')}",
        ),
        ("raise SystemExit('enough')", 4, "SystemExit: enough"),
        ("def f():\n    raise ValueError('deep')\nf()", 5, "ValueError: deep"),
        (
            "class Mute(Exception):\n    def __str__(self):\n        exit(5)\nraise Mute",
            7,
            "Mute: its text raises SystemExit",
        ),
        ("import json\njson.loads('{')", 5, "JSONDecodeError: "),
    ],
)
def test_a_fault_at_import_is_told_with_file_and_line(
    directory: Directory, text: str, line: int, said: str
) -> None:
    """Whatever a module raises, the deepest line of the author's own is shown."""
    file = directory.write("kitchen.py", text)
    message = directory.fault("kitchen")
    assert message.startswith(f"{file}:{line}: {said}")
    assert "'kitchen'" in message


def test_the_cause_of_a_fault_at_import_is_kept(directory: Directory) -> None:
    """The original exception is the error's cause, for whoever wants the traceback."""
    directory.write("kitchen.py", "1 / 0")
    with pytest.raises(ConfigurationError) as caught:
        directory.load("kitchen")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_fault_in_a_neighbour_is_told_with_the_neighbours_line(directory: Directory) -> None:
    """The deepest line may be in a helper of the plugin's."""
    directory.write("kitchen.py", "from ._helper import boil\n" + TEAPOT)
    helper = directory.write("_helper.py", "1 / 0")
    assert directory.fault("kitchen").startswith(f"{helper}:4: ZeroDivisionError")


def test_a_file_that_is_no_text_is_told(directory: Directory) -> None:
    """A file that Python cannot even read is told by its name."""
    file = directory.write("kitchen.py", "")
    file.write_bytes(b"x = 0\0")
    assert directory.fault("kitchen").startswith(f"{file}")


def test_a_class_that_is_written_wrongly_is_told_with_its_line(directory: Directory) -> None:
    """LUNA's spelling is refused with the line of the class."""
    file = directory.write("kitchen.py", 'class Teapot(BackgroundPlugin):\n    eventName = "x"')
    said = directory.fault("kitchen")
    assert said.startswith(f"{file}:4: trivet_plugins.kitchen.Teapot: LUNA's 'eventName'")


def test_a_module_without_a_plugin_is_refused(directory: Directory) -> None:
    """A file that only imports plugins defines none."""
    file = directory.write("kitchen.py", "class _Private(BackgroundPlugin): ...")
    assert directory.fault("kitchen").startswith(f"{file}: no plugin is defined here")


# Classes.


def test_every_plugin_of_a_module_is_activated(directory: Directory) -> None:
    """Two plugins in one file are two plugins, in the order of their definition."""
    directory.write("kitchen.py", TEAPOT + "class Cup(BackgroundPlugin): ...\nAlias = Cup")
    assert names(directory.load("kitchen")) == ["teapot", "cup"]


def test_an_unfinished_class_with_a_finished_one_is_a_base(directory: Directory) -> None:
    """A base class whose methods its subclass writes is not a plugin of its own."""
    directory.write(
        "kitchen.py",
        """
        from typing import TypeVar
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


def test_an_unfinished_class_is_refused_with_its_methods(directory: Directory) -> None:
    """A method that is left to write is told with the class's file and line."""
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


def test_a_class_without_source_is_told_by_its_name() -> None:
    """Where there is no file, a class is told by its module and name."""
    cls = type("Unseen", (MonitoringPlugin,), {"__module__": "nowhere"})
    assert refusal([cls]).startswith("nowhere.Unseen: still to be written")


@pytest.mark.parametrize("word", ["name", "needs", "supervision", "delivery", "listens_to"])
def test_what_is_trivets_cannot_be_a_setting(directory: Directory, word: str) -> None:
    """An annotation would make a setting of what is meant to be said of the class."""
    directory.write("kitchen.py", f"class Teapot(BackgroundPlugin):\n    {word}: object = None")
    assert f"{word!r} has an annotation" in directory.fault("kitchen")


def test_a_plugins_name_has_to_fit_a_table(directory: Directory) -> None:
    """A name that no `[plugins.NAME]` could have is refused."""
    directory.write("kitchen.py", "class Teapot(BackgroundPlugin):\n    name = 'a.b'")
    assert "letters, digits, '-' and '_' only, not 'a.b'" in directory.fault("kitchen")


def test_two_plugins_of_one_name_are_refused_with_both_places(directory: Directory) -> None:
    """One instance per name: the second is an error that shows both."""
    one, two = directory.write("one.py", TEAPOT), directory.write("two.py", TEAPOT)
    said = directory.fault("one", "two")
    assert said == f"two plugins are named 'teapot': {one}:5 (Teapot) and {two}:5 (Teapot)"


# Event types.


class Order(Event):
    number: str


class OrderPlaced(Order):
    total: float = 0.0


class OrderCancelled(Order, name="order.cancelled"):
    pass


class Unrelated(Event):
    pass


class Orders(EventPlugin[Order]):
    async def handle_event(self, event: Order) -> None: ...


class Everything(EventPlugin[Event]):
    async def handle_event(self, event: Event) -> None: ...


class Placed(EventPlugin[OrderPlaced]):
    async def handle_event(self, event: OrderPlaced) -> None: ...


def test_a_plugins_module_brings_its_event_types(directory: Directory) -> None:
    """Types of an active file, and of the helpers that it imports, are known; private ones not."""
    directory.write("_types.py", "class Poured(Event): ...")
    directory.write(
        "kitchen.py",
        "from . import _types\nclass _Base(Event): ...\nclass Boiled(_Base): ...\n" + TEAPOT,
    )
    assert sorted(directory.load("kitchen").events) == [
        "boiled",
        "monitoring_event",
        "plugin_status_event",
        "poured",
        "sending_event",
    ]


def test_what_is_listened_to_is_known() -> None:
    """A type that only a subscriber names is a type of the program, `Event` itself is not."""
    program = load(Settings(), plugins=[Placed, Everything])
    assert program.events.get("order_placed") is OrderPlaced
    assert program.events.get("event") is None


def test_a_base_class_stands_for_all_that_derive_from_it() -> None:
    """Who listens to a base class listens to every registered type below it."""
    types = [OrderPlaced, OrderCancelled, Unrelated]
    assert set(spec_of(Orders, event_types=types).listens_to) == {
        Order,
        OrderPlaced,
        OrderCancelled,
    }
    assert set(spec_of(Everything, event_types=types).listens_to) == {
        MonitoringEvent,
        SendingEvent,
        *types,
    }


def test_a_plugin_without_an_inbox_listens_to_nothing() -> None:
    """Background plugins have no event types."""
    assert spec_of(Kettle).listens_to == ()


def test_a_module_of_event_types_is_found_in_the_directory(directory: Directory) -> None:
    """`event_types` names a file beside the plugins, which import the same classes from it."""
    directory.write("orders.py", "class OrderSeen(Event): ...")
    directory.write(
        "audit.py",
        """
        from .orders import OrderSeen
        class Audit(EventPlugin[OrderSeen]):
            async def handle_event(self, event): ...
        """,
    )
    program = directory.load("audit", event_types=["orders"])
    assert program.plugins[0].listens_to == (program.events["order_seen"],)


def test_a_module_of_event_types_may_be_importable(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`event_types` names any module that Python finds, by its full name."""
    Directory(tmp_path / "site").write("shop_types/orders.py", "class OrderSeen(Event): ...")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    program = directory.load(event_types=["shop_types.orders"])
    assert program.events["order_seen"].__module__ == "shop_types.orders"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module", f"ModuleNotFoundError: {said_by(import_module, 'no_such_module')} ("),
        ("../orders", "'../orders' is no module's name: write it as an import does"),
        ("orders.py.", "'orders.py.' is no module's name: write it as an import does"),
    ],
)
def test_a_module_of_event_types_that_is_missing_is_told(
    directory: Directory, name: str, said: str
) -> None:
    """The error names the setting."""
    message = directory.fault(event_types=[name])
    assert said in message
    assert "event_types" in message


def test_a_module_without_event_types_is_told(directory: Directory) -> None:
    """A module that defines none was named by mistake."""
    directory.write("orders.py", "")
    assert directory.fault(event_types=["orders"]) == "event_types: 'orders' defines no event type"


def test_two_event_types_of_one_name_are_refused_with_both_places(directory: Directory) -> None:
    """An event's name leads to one class."""
    one = directory.write("one.py", TEAPOT + "class Boiled(Event): ...")
    two = directory.write("two.py", "class Cup(BackgroundPlugin): ...\nclass Boiled(Event): ...")
    said = directory.fault("one", "two")
    assert "two event types are named 'boiled'" in said
    assert f"{one}:{line_of(one, 'class Boiled')} (Boiled)" in said
    assert f"{two}:{line_of(two, 'class Boiled')} (Boiled)" in said


# The author's settings.


class Kettle(BackgroundPlugin):
    step: float = 1.0
    url: str = attrs.field(default="", validator=attrs.validators.max_len(3))
    _heat: int = 0


class Strict(BackgroundPlugin):
    bucket: str


def test_settings_are_structured_by_the_fields() -> None:
    """A table becomes the keywords of the plugin's `__init__`, in the fields' types."""
    values = spec_of(Kettle, {"step": 2, "url": "x"}).values
    assert values == {"step": 2.0, "url": "x"}
    assert isinstance(values["step"], float)


def test_settings_of_the_environment_are_converted(tmp_path: Path) -> None:
    """The plugin's name in capitals leads a variable to its field."""
    environ = {
        "TRIVET_CONFIG": str(tmp_path / "trivet.toml"),
        "TRIVET_PLUGINS__ORDERS__DELIVERY__BUFFER": "5",
        "TRIVET_PLUGINS__ORDERS__SUPERVISION__CRITICAL": "yes",
        "TRIVET_PLUGINS__KETTLE__STEP": "2",
    }
    (tmp_path / "trivet.toml").write_text('[plugins.kettle]\nurl = "x"')
    kettle, orders = load(load_settings(environ=environ), plugins=[Kettle, Orders]).plugins
    assert kettle.values == {"step": 2.0, "url": "x"}
    assert (orders.delivery.buffer, orders.supervision.critical) == (5, True)


@pytest.mark.parametrize(
    ("cls", "table", "said"),
    [
        (Kettle, {"stpe": 2}, "plugins.kettle.stpe: unknown key, did you mean 'step'?"),
        (Kettle, {"_heat": 2}, "plugins.kettle._heat: unknown key, "),
        (Kettle, {"app": 2}, "plugins.kettle.app: unknown key, "),
        (Kettle, {"step": "2"}, "plugins.kettle.step: expected a number, got a string"),
        (Kettle, {"url": "long"}, "plugins.kettle.url: "),
        (Strict, {}, "plugins.strict.bucket: required, but not set"),
        (
            Kettle,
            {"delivery": {}},
            "plugins.kettle.delivery: 'kettle' is not an event plugin: nothing is delivered to it",
        ),
        (
            Kettle,
            {"supervision": {"criticl": True}},
            "plugins.kettle.supervision.criticl: unknown key, did you mean 'critical'?",
        ),
        (Kettle, {"supervision": 1}, "plugins.kettle.supervision: expected a table"),
        (
            Kettle,
            {"supervision": {"restart_window": 0}},
            "plugins.kettle.supervision.restart_window: " + refusal_of(gt(0), "restart_window", 0),
        ),
        (
            Orders,
            {"delivery": {"buffer": 0}},
            f"plugins.orders.delivery.buffer: {refusal_of(ge(1), 'buffer', 0)}",
        ),
        (
            Orders,
            {"delivery": {"overflow": "drop"}},
            "plugins.orders.delivery.overflow: expected one of 'block', ",
        ),
        (
            Orders,
            {"delivery": {"events": ["parcel"]}},
            "plugins.orders.delivery.events: no event is named 'parcel': known: monitoring_event,",
        ),
        (
            Orders,
            {"delivery": {"events": ["sending_event"]}},
            "plugins.orders.delivery.events: 'orders' listens to order, not to sending_event",
        ),
    ],
)
def test_a_fault_of_a_plugins_table_is_told_with_its_key(
    cls: type[Plugin], table: Mapping[str, Any], said: str
) -> None:
    """Every key of `[plugins.NAME]` is checked before the plugin exists."""
    assert refusal([cls], {cls.name: table}).startswith(said)


def test_faults_of_several_plugins_are_told_at_once(tmp_path: Path) -> None:
    """Each fault has its line, with the file and the key."""
    file = tmp_path / "trivet.toml"
    file.write_text(
        "[plugins.kettle]\nstep = true\nurll = 1\n"
        "[plugins.kettle.supervision]\ncritical = 1\n"
        "[plugins.orders.delivery]\nbuffer = 0\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        load(load_settings(file, {}), plugins=[Kettle, Orders, Strict])
    assert sorted(line.split(": ")[:2] for line in str(caught.value).splitlines()) == [
        [str(file), "plugins.kettle.step"],
        [str(file), "plugins.kettle.supervision.critical"],
        [str(file), "plugins.kettle.urll"],
        [str(file), "plugins.orders.delivery.buffer"],
        [str(file), "plugins.strict.bucket"],
    ]


def test_annotations_are_evaluated_in_the_plugins_module(directory: Directory) -> None:
    """A setting may be of a class that only the plugin's file knows."""
    directory.write(
        "kitchen.py",
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from nowhere import Elsewhere
        @attrs.frozen
        class Leaf:
            origin: str
        class Teapot(BackgroundPlugin):
            leaves: list[Leaf] = attrs.field(factory=list)
            _state: Elsewhere
        """,
    )
    program = directory.load("kitchen", plugins={"teapot": {"leaves": [{"origin": "Assam"}]}})
    (leaf,) = program.plugins[0].values["leaves"]
    assert leaf.origin == "Assam"


def test_no_instance_is_made(directory: Directory) -> None:
    """Everything is checked before an author's `__init__` runs."""
    directory.write(
        "kitchen.py", TEAPOT + "\n    def __init__(self, app):\n        raise RuntimeError\n"
    )
    assert names(directory.load("kitchen", plugins={"teapot": {"step": 2}})) == ["teapot"]


def test_a_base_classs_settings_are_inherited(directory: Directory) -> None:
    """A field that a base in another module annotates is found there."""
    directory.write(
        "_base.py",
        "from pathlib import Path\nclass Base(BackgroundPlugin):\n    where: Path = Path()",
    )
    directory.write("kitchen.py", "from ._base import Base\nclass Teapot(Base):\n    step: int = 1")
    program = directory.load("kitchen", plugins={"teapot": {"where": "a", "step": 2}})
    assert program.plugins[0].values == {"where": Path("a"), "step": 2}


# The operator's settings over the author's.


class Narrow(EventPlugin[OrderPlaced | OrderCancelled | SendingEvent]):
    delivery = DeliverySettings(buffer=7, concurrency=3)
    supervision = SupervisionSettings(max_restarts=2, critical=True)

    async def handle_event(self, event: Event) -> None: ...


def test_the_operators_delivery_goes_over_the_authors() -> None:
    """What the operator leaves open is the author's, and what both leave open stays open."""
    delivery = spec_of(Narrow, {"delivery": {"buffer": 9, "overflow": "reject"}}).delivery
    assert delivery == DeliverySettings(buffer=9, overflow="reject", concurrency=3)


def test_the_operators_supervision_goes_over_the_authors() -> None:
    """The author's class attribute is the default of the operator's table."""
    supervision = spec_of(
        Narrow, {"supervision": {"critical": False, "backoff_max": 5}}
    ).supervision
    assert supervision == SupervisionSettings(max_restarts=2, critical=False, backoff_max=5.0)


def test_the_operator_narrows_what_is_listened_to() -> None:
    """`events` keeps those of the class's event types that it names."""
    spec = spec_of(Narrow, {"delivery": {"events": ["order.cancelled", "sending_event"]}})
    assert spec.listens_to == (OrderCancelled, SendingEvent)


def test_a_misspelt_event_is_told_with_the_nearest() -> None:
    """`events` is checked against the names that the program knows."""
    said = refusal([Narrow], {"narrow": {"delivery": {"events": ["sendin_event"]}}})
    assert "no event is named 'sendin_event': did you mean 'sending_event'?" in said


# What nobody reads.


def test_an_unknown_variable_is_warned_of() -> None:
    """A variable that sets nothing is told with the nearest that would."""
    with capture_logs() as logs:
        load(Settings(unknown_variables=("TRIVET_SERVICE_HOST",)))
    (entry,) = logs
    assert (entry["log_level"], entry["variable"]) == ("warning", "TRIVET_SERVICE_HOST")
    assert entry["hint"] == "did you mean 'TRIVET_SERVICE'?"


def test_a_table_of_a_plugin_that_is_not_active_is_allowed() -> None:
    """A file may hold the settings of plugins that run elsewhere."""
    with capture_logs() as logs:
        load(Settings(plugins={"webhook": {"url": 1}}), plugins=[Kettle])
    assert logs == []


def test_a_table_that_is_nearly_an_active_plugins_is_refused(directory: Directory) -> None:
    """A misspelt table would be settings that nobody reads."""
    with pytest.raises(ConfigurationError, match=r"plugins\.ketle: no such plugin: .*'kettle'"):
        load(directory.settings(plugins={"ketle": {"step": 2}}), plugins=[Kettle])


def test_what_is_missing_for_a_misspelt_table_is_told_with_it(directory: Directory) -> None:
    """Or one would look for what stands there, under another name."""

    class Samovar(BackgroundPlugin):
        water: float

    with pytest.raises(ConfigurationError) as caught:
        load(directory.settings(plugins={"samowar": {"water": 1.5}}), plugins=[Samovar])
    assert "plugins.samovar.water: required" in str(caught.value)
    assert "plugins.samowar: no such plugin: did you mean 'samovar'?" in str(caught.value)


def test_a_table_of_a_plugin_that_is_switched_off_may_be_like_another(directory: Directory) -> None:
    """What could be activated by its name is not misspelt."""
    directory.write("kettles.py", TEAPOT)
    load(directory.settings(plugins={"kettles": {"step": 2}}), plugins=[Kettle])


def test_a_table_with_the_files_name_is_refused(directory: Directory) -> None:
    """Tables go by the plugin's name; who writes the file's is told."""
    directory.write("kitchen.py", TEAPOT)
    settings = directory.settings("kitchen", plugins={"kitchen": {"step": 2}})
    said = r"plugins\.kitchen: this is a file's name, and its plugins have others: known: teapot$"
    with pytest.raises(ConfigurationError, match=said):
        load(settings, plugins=[Kettle])


# Routes.


def with_route(name: str, path: str, *methods: str) -> type[Plugin]:
    """A plugin class with one route."""

    async def answer(self: Plugin, **variables: str) -> str:
        return ""

    body = {"answer": route(path, methods=methods)(answer), "__module__": __name__}
    return type(name, (BackgroundPlugin,), body)


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
def test_two_plugins_with_one_route_are_refused(
    one: tuple[str, ...], two: tuple[str, ...], clash: bool
) -> None:
    """A path with a method leads to one plugin; what its variables are called is no difference."""
    classes = [with_route("One", *one), with_route("Two", *two)]
    if clash:
        said = refusal(classes)
        assert said.startswith(f"one route twice, {two[1]} {two[0]}: 'one'")
        assert "'two'" in said
    else:
        assert names(load(Settings(), plugins=classes)) == ["one", "two"]


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/plugins", "/events", "/events/", "/events/<name>", "/events/mine"],
)
def test_trivets_own_paths_are_refused(path: str) -> None:
    """No plugin takes the place of a probe or of the ingest."""
    said = refusal([with_route("One", path, "GET")])
    assert said.startswith("'one'")
    assert f"declares {path}, which is Trivet's own" in said


def test_listening_to_no_event_is_refused() -> None:
    """An empty `events` is a mistake: who wants no event leaves the plugin out."""

    class Deaf(MonitoringPlugin):
        async def flush_points(self, points: list[Any]) -> None:
            pass

    said = refusal([Deaf], {"deaf": {"delivery": {"events": []}}})
    assert said == "plugins.deaf.delivery.events: names no event; leave it out for all of them"


def test_websockets_clash_with_websockets() -> None:
    """Two at one path are refused, and so is one of Trivet's own; one beside a request is not."""

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
    """What Quart cannot make a rule of is found before anything has started."""
    said = refusal([with_route("One", path, "GET")])
    assert said.startswith("'one'")
    assert f"declares {path}, which is no path: " in said


def test_paths_beside_trivets_own_are_free() -> None:
    """Only the paths themselves are reserved."""
    program = load(Settings(), plugins=[with_route("One", "/events/mine/today", "GET")])
    assert names(program) == ["one"]


# Needs.


def plugin(name: str, *needs: type[Plugin] | str, base: Any = BackgroundPlugin) -> type[Any]:
    """A plugin class of a tier that needs others."""

    async def method(self: Plugin, *event: Event) -> None: ...

    methods = {"run": method} if base is not BackgroundPlugin else {}
    return type(name, (base,), {"needs": needs, "name": name, **methods, "__module__": __name__})


class Audit(EventPlugin[SendingEvent]):
    async def handle_event(self, event: SendingEvent) -> None: ...


def test_plugins_are_levelled_by_tier_and_need() -> None:
    """What a level needs is in an earlier one; within a level the declared order holds."""
    disk = plugin("disk")
    classes = [
        plugin("source", "export", base=SourcePlugin),
        plugin("export", disk, "format", base=Audit),
        plugin("buffer", disk),
        plugin("other", base=Audit),
        plugin("format", base=Audit),
        plugin("alone"),
        disk,
    ]
    assert load(Settings(), plugins=classes).tiers == (
        (("alone", "disk"), ("buffer",)),
        (("other", "format"), ("export",)),
        (("source",),),
    )


@pytest.mark.parametrize(
    ("need", "said"),
    [
        ("dsik", "'buffer' needs 'dsik', which is not active: did you mean 'disk'?"),
        (Kettle, "'buffer' needs 'kettle', which is not active: known: buffer, disk"),
    ],
)
def test_a_need_has_to_be_active(need: type[Plugin] | str, said: str) -> None:
    """A plugin that needs what is not there is refused, with the nearest that is."""
    assert refusal([plugin("buffer", need), plugin("disk")]) == said


def test_a_need_is_that_very_class() -> None:
    """Another class of the needed one's name is not what was asked for."""
    said = refusal([plugin("buffer", plugin("disk")), plugin("disk")])
    assert said.startswith("'buffer' needs ")
    assert "but the active 'disk' is " in said


def test_a_circle_of_needs_is_shown() -> None:
    """The error follows the needs around the circle."""
    said = refusal([plugin("a", "b"), plugin("b", "c"), plugin("c", "a")])
    circle = said.removeprefix("plugins need each other in a circle: ").split(" → ")
    assert circle[0] == circle[-1]
    assert set(pairwise(circle)) == {("a", "b"), ("b", "c"), ("c", "a")}


def test_a_plugin_that_needs_itself_is_a_circle() -> None:
    """The smallest circle is one too."""
    assert refusal([plugin("a", "a")]).endswith(": a → a")


@pytest.mark.parametrize(("outer", "inner"), [(0, 1), (1, 2), (0, 2)])
def test_needs_point_outwards(outer: int, inner: int) -> None:
    """A plugin of an outer tier starts before the inner ones, so it cannot need one."""
    bases: list[Any] = [BackgroundPlugin, Audit, SourcePlugin]
    said = refusal([plugin("a", "b", base=bases[outer]), plugin("b", base=bases[inner])])
    assert said.startswith("'a' (")
    assert "which starts later and stops earlier" in said
    load(
        Settings(),
        plugins=[plugin("a", base=bases[outer]), plugin("b", "a", base=bases[inner])],
    )


def test_needs_that_are_a_string_are_refused(directory: Directory) -> None:
    """A forgotten comma is told, instead of a plugin for each letter."""
    directory.write("kitchen.py", 'class Teapot(BackgroundPlugin):\n    needs = ("cup")')
    assert "write `needs = ('cup',)`" in directory.fault("kitchen")


def test_faults_of_settings_routes_and_needs_are_told_at_once() -> None:
    """What is independent of each other is told together."""
    one, two = with_route("One", "/a", "GET"), with_route("Two", "/a", "GET")
    said = refusal([one, two, plugin("c", "d")], {"one": {"x": 1}}).splitlines()
    assert [line.split(":")[0] for line in said] == [
        "plugins.one.x",
        "one route twice, GET /a",
        "'c' needs 'd', which is not active",
    ]


def test_a_plugin_on_asyncio_without_the_extra_is_refused_with_its_name(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything starts; who has only its class, and does not run it, needs no extra."""
    directory.write(
        "courier.py",
        """
        class Courier(AsyncioPlugin, BackgroundPlugin):
            pass
        """,
    )
    assert directory.load("courier").plugins[0].cls.name == "courier"

    def nothing_installed(name: str) -> None:
        """As `find_spec` says it."""

    monkeypatch.setattr("trivet._program._inspection.find_spec", nothing_installed)
    fault = directory.fault("courier")
    assert "courier.py" in fault
    assert "pip install 'trivet[asyncio]'" in fault
