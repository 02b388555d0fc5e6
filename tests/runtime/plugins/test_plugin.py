"""Plugin classes: event types, settings, instances, and the stock `run`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from types import new_class
from typing import Any, ClassVar, Generic, TypeVar, Union, cast

import attrs
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from trivet import (
    BackgroundPlugin,
    DefinitionError,
    Delivery,
    Event,
    EventPlugin,
    EventSendingPlugin,
    Inbox,
    MonitoringEvent,
    MonitoringPlugin,
    MonitoringPoint,
    Plugin,
    SendingEvent,
    SourcePlugin,
    current_delivery,
)
from trivet._delivery._memory import MemoryInbox
from trivet._events._delivery_settings import DeliveryPolicy
from trivet._inbox._inbox import BURST
from trivet._plugins._instance import create_plugin, resources_of
from trivet._plugins._plugin import App
from trivet._plugins._resources import Resources
from trivet._program._inspection import missing_methods, settings_fields

PluginT = TypeVar("PluginT", bound=Plugin)
E = TypeVar("E", bound=Event)


class Ping(Event):
    number: int = 0


class Pong(Event):
    number: int = 0


class StubApp:
    """The part of the app that an instance needs here."""

    def __init__(self) -> None:
        self.stopping = trio.Event()


def make(
    cls: type[PluginT],
    *,
    app: object = None,
    inbox: Inbox[Any] | None = None,
    workers: int = 1,
    **values: object,
) -> PluginT:
    """An instance of a plugin class, made as the runtime makes it."""
    return create_plugin(
        cls.name, cls, cast(App, app), values, inbox, DeliveryPolicy(concurrency=workers)
    )


def an_inbox(*events: Event) -> MemoryInbox:
    """An inbox with events in it."""
    inbox = MemoryInbox("p", DeliveryPolicy(buffer=1000, delivery_limit=3))
    for event in events:
        inbox.offer(Delivery.of(event))
    return inbox


# Names


def test_a_plugin_is_named_after_its_class() -> None:
    """The class's name in snake case is the default `name`, which a subclass does not inherit."""

    class HTTPExporter(BackgroundPlugin):
        pass

    class Named(BackgroundPlugin):
        name = "boiler"

    class Special(Named):
        pass

    assert (HTTPExporter.name, Named.name, Special.name) == ("http_exporter", "boiler", "special")


# What LUNA's authors write


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


# What it listens to


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


# Settings


class Exporter(BackgroundPlugin):
    limit: int = 10
    url: str
    tags: dict[str, str] = attrs.field(factory=dict[str, str])
    ratio: float = attrs.field(default=0.5, validator=attrs.validators.le(1))
    kind: ClassVar[str] = "exporter"
    _sent: int = 0
    _session: object
    _cache: list[int] = attrs.field(factory=list[int])

    def state(self) -> tuple[int, list[int], bool]:
        return self._sent, self._cache, hasattr(self, "_session")


class LoudExporter(Exporter):
    volume: int


def test_annotated_fields_are_the_settings() -> None:
    """Fields of the class and its bases are settings; private ones and ClassVars are not."""
    assert [field.name for field in settings_fields(Exporter)] == ["limit", "url", "tags", "ratio"]
    assert [field.name for field in settings_fields(LoudExporter)] == [
        "limit",
        "url",
        "tags",
        "ratio",
        "volume",
    ]


@pytest.mark.parametrize("cls", [BackgroundPlugin, SourcePlugin, EventPlugin, MonitoringPlugin])
def test_attributes_of_trivet(cls: type[Plugin]) -> None:
    """`app`, `log` and `inbox` are no settings."""
    assert settings_fields(cls) == []


def test_settings_and_defaults_are_set() -> None:
    """An instance has the operator's values and the author's defaults, made anew for each."""
    exporter, other = make(Exporter, url="u", limit=3), make(Exporter, url="v")
    assert (exporter.url, exporter.limit, exporter.ratio) == ("u", 3, 0.5)
    assert (other.url, other.limit) == ("v", 10)
    assert exporter.tags == {}
    assert exporter.tags is not other.tags


def test_private_fields_are_state_with_a_start_value() -> None:
    """A private field has its default, and one without is set by the author."""
    exporter, other = make(Exporter, url="u"), make(Exporter, url="u")
    assert exporter.state() == (0, [], False)
    assert exporter.state()[1] is not other.state()[1]
    with pytest.raises(TypeError):
        make(Exporter, url="u", sent=5)


def test_attrs_validates_settings() -> None:
    """An author's validator refuses a value, and names the field."""
    with pytest.raises(ValueError, match="'ratio'"):
        make(Exporter, url="u", ratio=2.0)


def test_a_setting_without_a_default_is_required() -> None:
    """A missing setting is an error that names it; it may stand after ones with defaults."""
    with pytest.raises(TypeError, match="url"):
        make(Exporter)
    assert make(LoudExporter, url="u", volume=11).volume == 11


def test_an_attrs_decorator_of_ones_own_is_refused() -> None:
    """An attrs decorator on a plugin class is refused as needless."""

    class Bare(EventPlugin[Ping]):
        limit: int = 3

    with pytest.raises(DefinitionError, match="Bare: a plugin is an attrs class by itself"):
        attrs.define(Bare)


# The instance


def test_hand_written_init() -> None:
    """A hand-written `__init__(self, app)` finds the settings, the app, the log and the inbox."""

    class Written(EventPlugin[Ping]):
        bucket: str = "b"

        def __init__(self, app: App) -> None:
            super().__init__(app)
            self.log.info("made", bucket=self.bucket)
            self.seen: list[object] = [app, self.app, self.inbox]

    app, inbox = StubApp(), an_inbox()
    with capture_logs() as lines:
        assert make(Written, app=app, inbox=inbox, bucket="c").seen == [app, app, inbox]
    assert [(line["bucket"], line["plugin"]) for line in lines] == [("c", "written")]


def test_init_without_super() -> None:
    """A plugin whose `__init__` forgets `super().__init__(app)` lacks nothing."""

    class Forgetful(BackgroundPlugin):
        bucket: str = "b"

        def __init__(self, app: App) -> None:
            self.session: object = None

    app = StubApp()
    plugin = make(Forgetful, app=app, bucket="c")
    assert (plugin.bucket, plugin.session) == ("c", None)
    assert plugin.stopping is app.stopping


def test_the_log_has_the_plugins_name() -> None:
    """Each line of a plugin's log has the plugin's name."""
    with capture_logs() as lines:
        make(Exporter, url="u").log.info("hello")
    assert lines == [{"event": "hello", "log_level": "info", "plugin": "exporter"}]


def test_instances_are_themselves() -> None:
    """Plugins with equal settings are not equal, and can be keys."""
    assert len({make(Exporter, url="u"), make(Exporter, url="u")}) == 2


# What is still to be written


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


# Resources


async def test_enter() -> None:
    """Context managers of both kinds are left when the lifetime ends, the last one first."""
    notes: list[str] = []

    @contextmanager
    def plain() -> Generator[str]:
        yield "plain"
        notes.append("plain left")

    @asynccontextmanager
    async def asynchronous() -> AsyncGenerator[str]:
        yield "async"
        await trio.lowlevel.checkpoint()
        notes.append("async left")

    plugin = make(BackgroundPlugin)
    async with Resources() as resources:
        with resources_of(plugin, resources):
            assert await plugin.enter(plain()) == "plain"
            assert await plugin.enter(asynchronous()) == "async"
            assert isinstance(await plugin.enter(trio.open_nursery()), trio.Nursery)
        assert notes == []
        with pytest.raises(RuntimeError, match="initialize"):
            await plugin.enter(plain())
    assert notes == ["async left", "plain left"]


async def test_enter_in_init() -> None:
    """`enter` in `__init__` is an error, since no lifetime has begun."""
    with pytest.raises(RuntimeError, match="initialize"):
        await make(BackgroundPlugin).enter(trio.open_nursery())


# The loop


async def test_handle_event_gets_the_events_in_order() -> None:
    """The stock `run` hands over one event after the other, until the inbox closes."""
    handled: list[Event] = []

    class Listener(EventPlugin[Ping | Pong]):
        async def handle_event(self, event: Ping | Pong) -> None:
            assert current_delivery().event is event
            await trio.lowlevel.checkpoint()
            handled.append(event)

    inbox = an_inbox(Ping(1), Pong(2), Ping(3))
    inbox.close()
    await make(Listener, inbox=inbox).run()
    assert handled == [Ping(1), Pong(2), Ping(3)]
    assert inbox.statistics().handled == 3


async def test_an_exception_costs_one_event() -> None:
    """An exception is counted and logged with the event's identity, and the plugin goes on."""
    handled: list[int] = []

    class Picky(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            if event.number == 2:
                raise ValueError("two")
            handled.append(event.number)

    inbox = an_inbox(Ping(1))
    inbox.offer(Delivery.of(Ping(2), id="e2", request_id="1,r"))
    inbox.offer(Delivery.of(Ping(3)))
    inbox.close()
    with capture_logs() as lines:
        await make(Picky, inbox=inbox).run()
    assert handled == [1, 3]
    statistics = inbox.statistics()
    assert (statistics.handled, statistics.failed, statistics.accepted) == (2, 1, 3)
    (line,) = lines
    assert (line["event_id"], line["event_type"], line["request_id"]) == ("e2", "ping", "1,r")
    assert (line["log_level"], line["plugin"]) == ("error", "p")
    assert isinstance(line["exc_info"], ValueError)


@pytest.mark.parametrize("workers", [1, 3])
async def test_concurrency(workers: int) -> None:
    """At most `concurrency` handlers run at once."""
    busy, most = 0, 0
    go_on = trio.Event()

    class Slow(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await go_on.wait()
            busy -= 1

    inbox = an_inbox(*(Ping(number) for number in range(5)))
    inbox.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make(Slow, inbox=inbox, workers=workers).run)
        await wait_all_tasks_blocked()
        assert (busy, inbox.statistics().in_flight) == (workers, workers)
        go_on.set()
    assert most == workers
    assert inbox.statistics().handled == 5


async def test_a_flooded_plugin_lets_others_have_their_turn() -> None:
    """A handler that never waits gives way after a number of events."""
    handled: list[int] = []

    class Greedy(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            handled.append(event.number)

    inbox = an_inbox(*(Ping(number) for number in range(3 * BURST)))
    inbox.close()
    plugin = make(Greedy, inbox=inbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plugin.run)
        seen = [0]
        while len(handled) < 3 * BURST:
            await trio.lowlevel.checkpoint()
            seen.append(len(handled))
    most = max(later - earlier for earlier, later in pairwise(seen))
    assert most <= 2 * BURST  # The last in one round of the tasks may be the first in the next.


async def test_a_background_plugin_without_a_run_stays() -> None:
    """A plugin that has only routes or resources waits to be cancelled."""
    with trio.move_on_after(0) as scope:
        await make(BackgroundPlugin).run()
    assert scope.cancelled_caught


async def test_lunas_two_kinds_pass_their_events_on() -> None:
    """`flush_points` gets the points of an event, `send_events` the event."""
    got: list[object] = []

    class Flushing(MonitoringPlugin):
        async def flush_points(self, points: list[MonitoringPoint]) -> None:
            got.append(points)

    class Sending(EventSendingPlugin):
        async def send_events(self, event: SendingEvent) -> None:
            got.append(event)

    points: list[MonitoringPoint] = []
    await make(Flushing).handle_event(MonitoringEvent(points))
    event = cast(SendingEvent, object())
    await make(Sending).handle_event(event)
    assert got[0] is points
    assert got[1] is event


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
