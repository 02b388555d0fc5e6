"""Settings and classes become a program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    SupervisionSettings,
    load_settings,
)
from trivet._program._loader import load
from trivet_contrib.webhook import Webhook

from ..wording import refusal_of
from .classes import plugin, with_route
from .directories import TEAPOT, Directory, checked, names, refusal


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


class Kettle(BackgroundPlugin):
    step: float = 1.0
    url: str = attrs.field(default="", validator=attrs.validators.max_len(3))
    _heat: int = 0


class Strict(BackgroundPlugin):
    bucket: str


# The program.


def test_empty_program(directory: Directory) -> None:
    """A program without plugins knows the event types of Trivet."""
    program = directory.load()
    assert (program.plugins, program.tiers) == ((), ((), (), ()))
    assert sorted(program.events) == [
        "monitoring_event",
        "operator_action_event",
        "plugin_status_event",
        "sending_event",
    ]


def test_home(directory: Directory) -> None:
    """A plugin's home is its module, or the package where that module is private."""
    directory.write("kitchen.py", TEAPOT)
    (one,) = directory.load("kitchen").plugins
    assert one.home == "trivet_plugins.kitchen"
    assert attrs.evolve(one, cls=Webhook).home == "trivet_contrib.webhook"


def test_module_without_event_types(directory: Directory) -> None:
    """A module in `event_types` that defines no event type is refused."""
    directory.write("orders.py", "")
    assert directory.fault(event_types=["orders"]) == "event_types: 'orders' defines no event type"


def test_no_instance_is_made(directory: Directory) -> None:
    """All checks come before any author's `__init__`."""
    directory.write(
        "kitchen.py", TEAPOT + "\n    def __init__(self, app):\n        raise RuntimeError\n"
    )
    assert names(directory.load("kitchen", plugins={"teapot": {"step": 2}})) == ["teapot"]


def test_faults_together() -> None:
    """Independent faults of settings, routes and needs are reported together."""
    one, two = with_route("One", "/a", "GET"), with_route("Two", "/a", "GET")
    said = refusal([one, two, plugin("c", "d")], {"one": {"x": 1}}).splitlines()
    assert [line.split(":")[0] for line in said] == [
        "plugins.one.x",
        "one route twice, GET /a",
        "'c' needs 'd', which is not active",
    ]


# What is listened to.


def test_listening_to_a_base_class() -> None:
    """A plugin that listens to a base class listens to every registered type below it."""
    types = [OrderPlaced, OrderCancelled, Unrelated]
    assert set(checked(Orders, event_types=types).listens_to) == {
        Order,
        OrderPlaced,
        OrderCancelled,
    }
    assert set(checked(Everything, event_types=types).listens_to) == {
        MonitoringEvent,
        SendingEvent,
        *types,
    }


def test_a_plugin_without_an_inbox_listens_to_nothing() -> None:
    """Background plugins listen to no event type."""
    assert checked(Kettle).listens_to == ()


def test_listening_to_no_event_is_refused() -> None:
    """An empty `events` is refused: a plugin that shall hear nothing is left out."""

    class Deaf(MonitoringPlugin):
        async def flush_points(self, points: list[Any]) -> None:
            pass

    said = refusal([Deaf], {"deaf": {"delivery": {"events": []}}})
    assert said == "plugins.deaf.delivery.events: names no event; leave it out for all of them"


# The author's settings.


def test_settings_are_structured_by_the_fields() -> None:
    """A table becomes the keywords of the plugin's `__init__`, in the fields' types."""
    values = checked(Kettle, {"step": 2, "url": "x"}).values
    assert values == {"step": 2.0, "url": "x"}
    assert isinstance(values["step"], float)


def test_settings_of_the_environment_are_converted(tmp_path: Path) -> None:
    """A variable leads to the field of a plugin by the plugin's name in capitals."""
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
        (Kettle, {"bind": "[::1]:0"}, "plugins.kettle.bind: unknown key, 'bind' is a key of the "),
        (Kettle, {"_heat": 2}, "plugins.kettle._heat: unknown key, "),
        (Kettle, {"app": 2}, "plugins.kettle.app: unknown key, "),
        (Kettle, {"step": "2"}, "plugins.kettle.step: expected a number, got a string"),
        (Kettle, {"url": "long"}, "plugins.kettle.url: "),
        (Strict, {}, "plugins.strict.bucket: required, but not set: expected a string"),
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
def test_fault_of_a_table(cls: type[Plugin], table: Mapping[str, Any], said: str) -> None:
    """Every key of `[plugins.NAME]` is checked before the plugin exists."""
    assert refusal([cls], {cls.name: table}).startswith(said)


def test_faults_of_several_tables(tmp_path: Path) -> None:
    """Each fault has a line of the error, with the file and the key."""
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


# The operator's settings over the author's.


class Narrow(EventPlugin[OrderPlaced | OrderCancelled | SendingEvent]):
    delivery = DeliverySettings(buffer=7, concurrency=3)
    supervision = SupervisionSettings(max_restarts=2, critical=True)

    async def handle_event(self, event: Event) -> None: ...


def test_delivery_over_the_authors() -> None:
    """The author's delivery settings hold where the operator gives none."""
    delivery = checked(Narrow, {"delivery": {"buffer": 9, "overflow": "reject"}}).delivery
    assert delivery == DeliverySettings(buffer=9, overflow="reject", concurrency=3)


def test_supervision_over_the_authors() -> None:
    """The author's class attribute is the default of the operator's table."""
    supervision = checked(
        Narrow, {"supervision": {"critical": False, "backoff_max": 5}}
    ).supervision
    assert supervision == SupervisionSettings(max_restarts=2, critical=False, backoff_max=5.0)


def test_narrowed_events() -> None:
    """`events` keeps the named event types of those that the class listens to."""
    one = checked(Narrow, {"delivery": {"events": ["order.cancelled", "sending_event"]}})
    assert one.listens_to == (OrderCancelled, SendingEvent)


def test_open_events(directory: Directory) -> None:
    """An event of the program's own may come from outside if `open_events` names it; every name
    that no event has is a fault."""
    assert not any(map(directory.load().events.is_open, directory.load().events.types))
    program = directory.load(open_events=["sending_event"])
    assert [each for each in program.events if program.events.is_open(program.events[each])] == [
        "sending_event"
    ]
    with pytest.raises(ConfigurationError) as caught:
        directory.load(open_events=["sendin_event", "monitoring_event", "parcel"])
    first, second = str(caught.value).splitlines()
    assert first == "open_events: no event is named 'sendin_event': did you mean 'sending_event'?"
    assert second.startswith("open_events: no event is named 'parcel': known: monitoring_event,")


def test_misspelt_event() -> None:
    """`events` is checked against the names that the program knows."""
    said = refusal([Narrow], {"narrow": {"delivery": {"events": ["sendin_event"]}}})
    assert "no event is named 'sendin_event': did you mean 'sending_event'?" in said


# Settings that nobody reads.


def test_unknown_variable() -> None:
    """A warning about a variable that sets nothing names the nearest that does."""
    with capture_logs() as logs:
        load(Settings(unknown_variables=("TRIVET_SERVICE_HOST",)))
    (entry,) = logs
    assert (entry["log_level"], entry["variable"]) == ("warning", "TRIVET_SERVICE_HOST")
    assert entry["hint"] == "did you mean 'TRIVET_SERVICE'?"


def test_table_of_an_inactive_plugin() -> None:
    """A file may hold the settings of plugins that run elsewhere."""
    with capture_logs() as logs:
        load(Settings(plugins={"webhook": {"url": 1}}), plugins=[Kettle])
    assert logs == []


def test_misspelt_table(directory: Directory) -> None:
    """A table whose name is nearly that of an active plugin is refused: nobody would read it."""
    with pytest.raises(ConfigurationError, match=r"plugins\.ketle: no such plugin: .*'kettle'"):
        load(directory.settings(plugins={"ketle": {"step": 2}}), plugins=[Kettle])


def test_misspelt_table_and_its_gap(directory: Directory) -> None:
    """A required setting in a misspelt table is reported together with the misspelling."""

    class Samovar(BackgroundPlugin):
        water: float

    with pytest.raises(ConfigurationError) as caught:
        load(directory.settings(plugins={"samowar": {"water": 1.5}}), plugins=[Samovar])
    assert "plugins.samovar.water: required" in str(caught.value)
    assert "plugins.samowar: no such plugin: did you mean 'samovar'?" in str(caught.value)


def test_similar_name_switched_off(directory: Directory) -> None:
    """A table whose name is that of a file is not taken for a misspelling."""
    directory.write("kettles.py", TEAPOT)
    load(directory.settings(plugins={"kettles": {"step": 2}}), plugins=[Kettle])


def test_table_by_file_name(directory: Directory) -> None:
    """A table with the name of a file is refused, and the error names the file's plugins."""
    directory.write("kitchen.py", TEAPOT)
    settings = directory.settings("kitchen", plugins={"kitchen": {"step": 2}})
    said = r"plugins\.kitchen: this is a file's name, and its plugins have others: known: teapot$"
    with pytest.raises(ConfigurationError, match=said):
        load(settings, plugins=[Kettle])


# Needs.


@pytest.mark.parametrize(
    ("need", "said"),
    [
        ("dsik", "'buffer' needs 'dsik', which is not active: did you mean 'disk'?"),
        (Kettle, "'buffer' needs 'kettle', which is not active: known: buffer, disk"),
    ],
)
def test_a_need_has_to_be_active(need: type[Plugin] | str, said: str) -> None:
    """A plugin that needs an inactive one is refused, with the nearest active name."""
    assert refusal([plugin("buffer", need), plugin("disk")]) == said


def test_a_need_is_that_very_class() -> None:
    """A needed class is not satisfied by another class of its name."""
    said = refusal([plugin("buffer", plugin("disk")), plugin("disk")])
    assert said.startswith("'buffer' needs ")
    assert "but the active 'disk' is " in said
