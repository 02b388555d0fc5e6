"""Classes under several names, and event types named in settings."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from trivet import (
    BackgroundPlugin,
    ConfigurationError,
    Event,
    EventPlugin,
    Fate,
    MonitoringEvent,
    Plugin,
    PluginNotActiveError,
    PluginStatusEvent,
    Runtime,
    Settings,
    StoreSettings,
    load_settings,
    open_runtime,
    route,
)
from trivet._program._inspection import NamedClass, check_routes
from trivet._program._loader import Program, load
from trivet.testing import open_plugins

SHOP = """
from trivet import Event, EventPlugin


class OrderPlaced(Event):
    order_id: str


class OrderCancelled(Event):
    order_id: str


class Sink(EventPlugin[Event]):
    to: str

    def __init__(self, app):
        self.sent = []

    async def handle_event(self, event: Event) -> None:
        self.log.info("sent", to=self.to, event_type=event.__event_name__)
        self.sent.append(event)
"""

SOURCE = """
from trivet import Event, SourcePlugin
import trio


class Source(SourcePlugin):
    into: type[Event]

    async def run(self) -> None:
        await self.app.publish(self.into("o-1"))
        await trio.sleep_forever()
"""

TWO = """
from trivet import BackgroundPlugin


class Kettle(BackgroundPlugin): ...


class Samovar(BackgroundPlugin): ...
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write `trivet.toml` and files of plugins; the fixture returns the path of the former."""

    def write(toml: str, **files: str) -> Path:
        (tmp_path / "plugins").mkdir(exist_ok=True)
        for name, text in files.items():
            (tmp_path / "plugins" / f"{name}.py").write_text(text)
        file = tmp_path / "trivet.toml"
        file.write_text(textwrap.dedent(toml))
        return file

    return write


def loaded(file: Path, environ: Mapping[str, str] | None = None) -> Program:
    """The program of a settings file."""
    return load(load_settings(file, environ=environ or {}))


def fault(file: Path) -> str:
    """The error's text for a settings file that is refused."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(file)
    return str(caught.value)


def names(program: Program) -> list[tuple[str, str]]:
    """The names and classes of a program's plugins."""
    return [(one.name, one.cls.__name__) for one in program.plugins]


# Names.


def test_one_class_runs_under_several_names(write: Write) -> None:
    """`use` in the table of an active name runs that plugin under the name, with its settings."""
    file = write(
        """
        active_plugins = ["sink", "orders", "audit-log"]
        [plugins.sink]
        to = "all"
        [plugins.orders]
        use = "sink"
        to = "orders"
        [plugins.audit-log]
        use = "sink"
        to = "audit"
        """,
        sink=SHOP,
    )
    program = loaded(file)
    assert names(program) == [("sink", "Sink"), ("orders", "Sink"), ("audit-log", "Sink")]
    assert [one.values["to"] for one in program.plugins] == ["all", "orders", "audit"]
    assert set(program.homes) == {"sink", "orders", "audit-log"}


def test_a_class_need_not_run_under_its_own_name(write: Write) -> None:
    """Only active names run, and the class's own name need not be among them."""
    file = write(
        'active_plugins = ["orders"]\nplugins.orders = { use = "sink", to = "" }', sink=SHOP
    )
    assert names(loaded(file)) == [("orders", "Sink")]


def test_use_of_an_entry_point() -> None:
    """`use` may name an entry point."""
    table = {"use": "webhook", "url": "https://example.org/"}
    program = load(Settings(active_plugins=["orders"], plugins={"orders": table}))
    assert names(program) == [("orders", "Webhook")]


def test_use_in_the_environment(write: Write) -> None:
    """A variable makes an instance as the file does."""
    environ = {
        "TRIVET_ACTIVE_PLUGINS": "orders",
        "TRIVET_PLUGINS__ORDERS__USE": "sink",
        "TRIVET_PLUGINS__ORDERS__TO": "env",
    }
    program = loaded(write("", sink=SHOP), environ)
    assert [(one.name, one.values) for one in program.plugins] == [("orders", {"to": "env"})]


def test_use_of_one_plugin_of_a_module(write: Write) -> None:
    """`use` names one of a module's several plugins as `MODULE.PLUGIN`."""
    toml = 'active_plugins = ["morning"]\nplugins.morning.use = "{}"\n'
    assert names(loaded(write(toml.format("two.kettle"), two=TWO))) == [("morning", "Kettle")]
    file = write(toml.format("two"), two=TWO)
    assert fault(file) == (
        f"{file}: plugins.morning.use: 'two' has several plugins; "
        "write one of 'two.kettle', 'two.samovar'"
    )
    assert fault(write(toml.format("two.samova"), two=TWO)).endswith(
        "plugins.morning.use: 'two' has no plugin 'samova': did you mean 'samovar'?"
    )


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (
            '"snik"',
            "no plugin 'snik' in {plugins}, nor among the entry points: did you mean 'sink'?",
        ),
        ('"sink.py"', "'sink.py' is no plugin's name: write it without .py: 'sink'"),
        ("3", "expected a plugin's name, as a string"),
    ],
)
def test_use_of_nothing(write: Write, use: str, said: str) -> None:
    """The message about a wrong `use` names the file, the key and the nearest right spelling."""
    file = write(f'active_plugins = ["orders"]\nplugins.orders.use = {use}', sink=SHOP)
    plugins = file.parent / "plugins"
    assert fault(file) == f"{file}: plugins.orders.use: {said.format(plugins=plugins)}"


def test_an_instances_name_has_to_fit_a_table(write: Write) -> None:
    """An instance's name that no table can have is refused, as any plugin's is."""
    file = write('active_plugins = ["a b"]\nplugins."a b".use = "sink"', sink=SHOP)
    assert "letters, digits, '-' and '_' only, not 'a b'" in fault(file)


def test_use_in_a_plugins_own_table(write: Write) -> None:
    """`use` is refused in the table of a name that a class has already."""
    toml = 'active_plugins = ["two"]\nplugins.kettle.use = "two.samovar"'
    file = write(toml, two=TWO)
    said = fault(file)
    assert said.startswith(f"{file}: plugins.kettle.use: 'kettle' is ")
    assert said.endswith("already; `use` is for further names in `active_plugins`")


def test_an_instance_does_not_take_anothers_name(write: Write) -> None:
    """Two plugins of one name are refused, by class or by `use`."""
    toml = 'active_plugins = ["two", "kettle"]\nplugins.kettle.use = "sink"\nplugins.kettle.to = ""'
    assert "two plugins are named 'kettle'" in fault(write(toml, two=TWO, sink=SHOP))


def test_inactive_instance(write: Write) -> None:
    """A warning names a table with `use` whose name is not in `active_plugins`."""
    file = write('active_plugins = ["two"]\nplugins.orders = { use = "sink", to = "" }', two=TWO)
    with capture_logs() as logs:
        loaded(file)
    assert [(entry["log_level"], entry["table"]) for entry in logs] == [
        ("warning", "[plugins.orders]")
    ]


def test_faults_of_an_instance_name_its_own_table(write: Write) -> None:
    """Faults in `[plugins.orders]` are reported with that key, and not with the class's name."""
    file = write(
        """
        active_plugins = ["orders"]
        [plugins.orders]
        use = "sink"
        tto = ""
        [plugins.orders.delivery]
        batch_size = 3
        [plugins.orders.supervision]
        criticl = true
        """,
        sink=SHOP,
    )
    assert sorted(fault(file).splitlines()) == [
        f"{file}: plugins.orders.delivery.batch_size: 'orders' is not a BatchPlugin",
        f"{file}: plugins.orders.supervision.criticl: unknown key, did you mean 'critical'?",
        f"{file}: plugins.orders.to: required, but not set: expected a string",
        f"{file}: plugins.orders.tto: unknown key, did you mean 'to'?",
    ]


def test_use_cannot_be_an_authors_setting() -> None:
    """A plugin class cannot have a setting named `use`."""

    class Kettle(BackgroundPlugin):
        use: str = ""

    with pytest.raises(ConfigurationError, match="'use' is the operator's word"):
        load(Settings(), plugins=[Kettle])


def test_two_instances_with_one_route() -> None:
    """A second instance of a class with routes is refused; the message names both."""

    class Teapot(BackgroundPlugin):
        @route("/teapot")
        async def teapot(self) -> str:
            return "tea"

    instances = [NamedClass("teapot", Teapot), NamedClass("second", Teapot, is_alias=True)]
    with pytest.raises(ConfigurationError, match=r"one route twice.*'teapot'.*'second'"):
        check_routes(instances)


# The running program.


class Ping(Event):
    number: int


class Plain(EventPlugin[Event]):
    async def handle_event(self, event: Event) -> None: ...


PLAIN = """
from trivet import Event, EventPlugin


class Plain(EventPlugin[Event]):
    def __init__(self, app):
        self.sent = []

    async def handle_event(self, event: Event) -> None:
        self.sent.append(event)
        self.log.info("sent")
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with one plugin."""
    (tmp_path / "plain.py").write_text(PLAIN)
    return tmp_path


def instances(*names: str, **more: Any) -> dict[str, Any]:
    """The tables of instances of `plain`."""
    return {name: {"use": "plain", **more} for name in names}


async def test_names_inboxes_and_counters(directory: Path) -> None:
    """Logs, statistics, outcomes and the plugin itself have the instance's name."""
    with capture_logs() as logs:
        async with open_plugins(
            "a", "b", directory=directory, settings=instances("a", "b"), event_types=[Ping]
        ) as runtime:
            outcome = await runtime.publish(Ping(1), wait=True)
            assert outcome.fates == {"a": Fate.HANDLED, "b": Fate.HANDLED}
            assert {name: each.handled for name, each in runtime.statistics().items()} == {
                "a": 1,
                "b": 1,
            }
            a, b = (runtime.hosts[name].plugin for name in ("a", "b"))
            assert (a.name, b.name, type(a).name) == ("a", "b", "plain")
            assert vars(a)["sent"] == vars(b)["sent"] == [Ping(1)]
    assert sorted(entry["plugin"] for entry in logs if entry["event"] == "sent") == ["a", "b"]


async def test_durable_instances(directory: Path, tmp_path: Path) -> None:
    """The events of each durable instance stay its own, in the store too."""
    store = StoreSettings(path=tmp_path / "store.sqlite3")
    fates: list[Mapping[str, Fate]] = []
    for _ in range(2):
        async with open_plugins(
            "a",
            "b",
            directory=directory,
            settings=instances("a", "b", delivery={"durable": True}),
            event_types=[Ping],
            store=store,
        ) as runtime:
            outcome = await runtime.publish(Ping(1), wait=True, id="1", source="s")
            fates.append(outcome.fates)
    assert fates == [
        {"a": Fate.HANDLED, "b": Fate.HANDLED},
        {"a": Fate.DUPLICATE, "b": Fate.DUPLICATE},
    ]


async def test_get_by_class(directory: Path) -> None:
    """`app.get` takes the class's own name first, then an only instance, and else needs a name."""

    @asynccontextmanager
    async def opened(*names: str | type[Plugin]) -> AsyncGenerator[tuple[Runtime, type[Plugin]]]:
        settings = instances("a", "b")
        async with open_plugins(*names, directory=directory, settings=settings) as runtime:
            yield runtime, type(runtime.hosts["a"].plugin)

    async with opened("a") as (runtime, plain):
        assert runtime.get(plain).name == "a"
    async with opened("a", "plain") as (runtime, plain):
        assert runtime.get(plain).name == "plain"
        assert runtime.get(plain, "a").name == "a"
    async with opened("a", "b", Ticking) as (runtime, plain):
        with pytest.raises(PluginNotActiveError, match=r"which Plain\?.*: a, b$"):
            runtime.get(plain)
        with pytest.raises(PluginNotActiveError, match="'aa' is no active Plain; did you mean 'a'"):
            runtime.get(plain, "aa")
        with pytest.raises(PluginNotActiveError, match="'ticking' is no active Plain"):
            runtime.get(plain, "ticking")
        with pytest.raises(PluginNotActiveError, match="plugin 'other' is not active"):
            runtime.get(Other)


class Ticking(BackgroundPlugin): ...


class Other(BackgroundPlugin): ...


def needing(toml: str, need: str, write: Write) -> Path:
    """Settings of a program in which one plugin needs a kettle."""
    text = (
        "from .kettle import Kettle\nfrom trivet import *\n"
        f"class Tea(BackgroundPlugin):\n    needs = ({need},)\n"
    )
    kettle = "from trivet import *\nclass Kettle(BackgroundPlugin): ...\n"
    return write(toml, tea=text, kettle=kettle)


def test_needs_and_names(write: Write) -> None:
    """`needs` finds an only instance by its class, and any instance by its name."""
    toml = 'active_plugins = ["tea", "hot"]\nplugins.hot.use = "kettle"'
    for need in ("Kettle", "'hot'"):
        program = loaded(needing(toml, need, write))
        assert program.needs["tea"] == ("hot",)


def test_needs_one_of_several(write: Write) -> None:
    """A needed class with several instances is ambiguous, unless one has the class's own name."""
    toml = """
    active_plugins = ["tea", "hot", "{}"]
    plugins.hot.use = "kettle"
    plugins.cold.use = "kettle"
    """
    assert loaded(needing(toml.format("kettle"), "Kettle", write)).needs["tea"] == ("kettle",)
    said = fault(needing(toml.format("cold"), "Kettle", write))
    assert "of which there are 'hot' and 'cold': name one of them in `needs`" in said


# Events that settings name.


class Feed(BackgroundPlugin):
    into: type[Event]
    others: list[type[Event]] = attrs.field(factory=list[type[Event]])
    by_key: dict[str, type[Event]] = attrs.field(factory=dict[str, type[Event]])
    measured: type[MonitoringEvent] | None = None


def values(table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a feed."""
    settings = Settings(plugins={"feed": dict(table)})
    (one,) = load(settings, plugins=[Feed], event_types=[Ping]).plugins
    return one.values


def test_a_setting_can_be_an_event_type() -> None:
    """A field of the type `type[Event]` takes an event's name, alone or within other types."""
    table = {
        "into": "ping",
        "others": ["sending_event", "ping"],
        "by_key": {"ping": "ping"},
        "measured": "monitoring_event",
    }
    read = values(table)
    assert read["into"] is Ping
    assert read["others"][1] is Ping
    assert read["by_key"] == {"ping": Ping}
    assert read["measured"] is MonitoringEvent


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"into": "pnig"}, "plugins.feed.into: no event has this name, did you mean 'ping'?"),
        ({"into": 3}, "plugins.feed.into: expected an event's name, as a string, got an integer"),
        (
            {"into": "ping", "others": ["pin"]},
            "plugins.feed.others[0]: no event has this name, did",
        ),
        (
            {"into": "ping", "measured": "ping"},
            "plugins.feed.measured: no event has this name, known: monitoring_event",
        ),
        ({}, "plugins.feed.into: required, but not set: expected an event's name"),
    ],
)
def test_misspelt_event_type(table: dict[str, Any], said: str) -> None:
    """The message names the key and the nearest event that fits the annotation."""
    with pytest.raises(ConfigurationError) as caught:
        values(table)
    assert str(caught.value).startswith(said)


def test_status_events_by_name() -> None:
    """`delivery.events` adds status events to a plugin that listens to `Event`."""
    table = {"delivery": {"events": ["plugin_status_event", "ping"]}}
    settings = Settings(plugins={"plain": table})
    (one,) = load(settings, plugins=[Plain], event_types=[Ping]).plugins
    assert one.listens_to == (PluginStatusEvent, Ping)


async def test_settings_alone_connect_a_source_to_sinks(write: Write) -> None:
    """Settings alone connect a source that publishes an event type to two sinks that choose."""
    file = write(
        """
        active_plugins = ["feed", "orders", "rest"]
        event_types = ["shop"]
        [plugins.feed]
        use = "source"
        into = "order_placed"
        [plugins.orders]
        use = "shop"
        to = "orders"
        [plugins.orders.delivery]
        events = ["order_placed"]
        [plugins.rest]
        use = "shop"
        to = "rest"
        [plugins.rest.delivery]
        events = ["order_cancelled"]
        """,
        shop=SHOP,
        source=SOURCE,
    )
    async with open_runtime(load_settings(file, environ={})) as runtime:
        pass
    handled = {name: each.handled for name, each in runtime.statistics().items()}
    assert handled == {"orders": 1, "rest": 0}
