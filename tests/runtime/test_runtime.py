"""The running program: order of start and stop, publishing, finding each other."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import pytest
import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    Delivery,
    DeliverySettings,
    Event,
    EventPlugin,
    Fate,
    Plugin,
    PluginNotActiveError,
    Settings,
    ShutdownSettings,
    SourcePlugin,
    StartError,
    UnknownEventError,
    current_delivery,
    open_runtime,
)
from trivet.testing import open_plugins

notes: list[str] = []


class Noted:
    """Mixed into plugins that note their start and their close."""

    name: ClassVar[str]

    async def initialize(self) -> None:
        notes.append(f"+{self.name}")

    async def close(self) -> None:
        notes.append(f"-{self.name}")


class Ping(Event):
    number: int = 0


class Store(Noted, BackgroundPlugin):
    pass


class Cache(Noted, BackgroundPlugin):
    needs = (Store,)


class Listener(Noted, EventPlugin[Ping]):
    needs = (Cache,)
    handled: ClassVar[list[int]] = []

    async def handle_event(self, event: Ping) -> None:
        await trio.lowlevel.checkpoint()
        self.handled.append(event.number)


class Feed(Noted, SourcePlugin):
    async def run(self) -> None:
        await trio.sleep_forever()


@pytest.fixture(autouse=True)
def forget() -> None:
    """Begin each test with empty notes."""
    notes.clear()
    Listener.handled.clear()


async def test_start_follows_the_tiers_and_needs_and_the_stop_is_the_reverse() -> None:
    """Background plugins start first, then event plugins, then sources; what is needed, before."""
    async with open_plugins(Feed, Listener, Cache, Store):
        assert notes == ["+store", "+cache", "+listener", "+feed"]
        notes.clear()
    assert notes == ["-feed", "-listener", "-cache", "-store"]


async def test_inboxes_are_drained_before_what_handlers_need_is_closed() -> None:
    """At a stop an event plugin finishes its inbox while the background plugins still live."""
    async with open_plugins(Listener, Cache, Store) as runtime:
        for number in range(100):
            await runtime.publish(Ping(number))
    assert Listener.handled == list(range(100))
    assert runtime.statistics()["listener"].handled == 100


async def test_a_source_that_publishes_in_close_is_still_heard() -> None:
    """Sources end before the inboxes of event plugins close."""

    class LastWord(SourcePlugin):
        async def run(self) -> None:
            await trio.sleep_forever()

        async def close(self) -> None:
            outcome = await self.app.publish(Ping(7))
            assert outcome.fates == {"listener": Fate.QUEUED}

    async with open_plugins(LastWord, Listener, Cache, Store):
        pass
    assert Listener.handled == [7]


async def test_get_returns_the_active_instance() -> None:
    """`app.get` finds a plugin by its class, with the class's type."""

    class Asker(BackgroundPlugin):
        async def initialize(self) -> None:
            store: Store = self.app.get(Store)
            notes.append(store.name)

    async with open_plugins(Store, Asker):
        pass
    assert "store" in notes


async def test_get_of_an_inactive_plugin_names_the_nearest() -> None:
    """The error about a plugin that is not active names the nearest active one."""

    class Stores(BackgroundPlugin):
        pass

    async with open_plugins(Store) as runtime:
        with pytest.raises(
            PluginNotActiveError, match="'stores' is not active; did you mean 'store'"
        ):
            runtime.get(Stores)


async def test_stopping_is_set_when_the_stop_begins() -> None:
    """`stopping` is set while a plugin that is not cancelled yet still runs."""
    seen: list[bool] = []

    class Watcher(EventPlugin[Ping]):
        async def run(self) -> None:
            assert not self.stopping.is_set()
            async for _ in self.inbox:
                pass
            seen.append(self.stopping.is_set())

    async with open_plugins(Watcher) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        assert not runtime.stopping.is_set()
    assert seen == [True]


async def test_no_subscriber_is_an_outcome_and_counted() -> None:
    """An event that nobody listens to is unrouted, not lost in silence."""
    async with open_plugins(Store, event_types=[Ping]) as runtime:
        outcome = await runtime.publish(Ping())
        assert outcome.unrouted
        assert not outcome.accepted
        assert runtime.unrouted == {"ping": 1}


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (Ping, r"Ping is the class: publish an event of it, `Ping\(…\)`"),
        ({"number": 1}, "a dict is no event: derive a class from Event"),
        ("ping", "a str is no event: derive a class from Event"),
        (dict, "a dict is no event: derive a class from Event"),
        (Delivery.of(Ping()), r"write `delivery\.event`"),
    ],
)
async def test_what_is_no_event_of_the_program_is_refused(mistake: Any, says: str) -> None:
    """A class, a dict or an envelope is refused with what to write, and is not unrouted."""
    async with open_plugins(Listener, Cache, Store) as runtime:
        with pytest.raises(UnknownEventError, match=says):
            await runtime.publish(mistake)
        assert runtime.unrouted == {}


async def test_several_events_are_published_in_their_envelopes() -> None:
    """An event without its envelope is refused by `publish_many`, with the right form."""
    async with open_plugins(Listener, Cache, Store) as runtime:
        with pytest.raises(UnknownEventError, match=r"write `Delivery\.of\(event\)`"):
            await runtime.publish_many([cast("Delivery[Event]", Ping())])


async def test_an_event_of_an_unregistered_type_is_refused() -> None:
    """A subclass of what a plugin listens to is a type of its own, which has to be registered."""

    class Unregistered(Ping):
        pass

    async with open_plugins(Listener, Cache, Store) as runtime:
        with pytest.raises(UnknownEventError, match="event_types"):
            await runtime.publish(Unregistered())


async def test_waiting_returns_the_worst_fate() -> None:
    """`wait=True` answers after all handlers, with one fate for each."""

    class Good(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await trio.lowlevel.checkpoint()

    class Bad(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            raise ValueError("bad")

    async with open_plugins(Good, Bad) as runtime:
        outcome = await runtime.publish(Ping(), wait=True)
    assert outcome.fates == {"good": Fate.HANDLED, "bad": Fate.FAILED}
    assert outcome.worst is Fate.FAILED


async def test_the_envelope_travels_with_the_event() -> None:
    """The handler's `current_delivery` has the envelope that the publisher gave the event."""
    envelopes: list[object] = []

    class Reader(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            delivery = current_delivery()
            envelopes.append((delivery.id, delivery.source, delivery.key, delivery.request_id))
            envelopes.append(
                (delivery.attempt, delivery.deadline, delivery.time.tzinfo is not None)
            )

    async with open_plugins(Reader, service="shop") as runtime:
        await runtime.publish(Ping(), id="7", key="k", request_id="r", wait=True)
    assert envelopes == [("7", "shop", "k", "r"), (1, math.inf, True)]


async def test_what_a_handler_publishes_carries_its_request_on() -> None:
    """The request behind an event is the request behind the events that it leads to."""
    requests: list[str | None] = []

    class Pong(Event):
        pass

    class First(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            await self.app.publish(Pong())

    class Second(EventPlugin[Pong]):
        async def handle_event(self, event: Pong) -> None:
            requests.append(current_delivery().request_id)

    async with open_plugins(First, Second) as runtime:
        await runtime.publish(Ping(), request_id="r-1", wait=True)
        await trio.testing.wait_all_tasks_blocked()
    assert requests == ["r-1"]


async def test_a_slow_subscriber_does_not_delay_a_fast_one(autojump_clock: MockClock) -> None:
    """A fast subscriber has every event at once, while a slow one's inbox is full."""
    fast: list[float] = []

    class Fast(EventPlugin[Ping]):
        async def handle_event(self, event: Ping) -> None:
            fast.append(trio.current_time())

    class Slow(EventPlugin[Ping]):
        delivery = DeliverySettings(buffer=1, overflow="drop_newest")

        async def handle_event(self, event: Ping) -> None:
            await trio.sleep(100)

    async with open_plugins(Slow, Fast, shutdown=ShutdownSettings(drain=0.0)) as runtime:
        for _ in range(10):
            await runtime.publish(Ping())
        await trio.testing.wait_all_tasks_blocked()
        assert fast == [0.0] * 10


async def test_several_types_share_one_inbox_in_order() -> None:
    """A plugin that listens to two types gets them in the order of publication."""
    seen: list[str] = []

    class Pong(Event):
        pass

    class Both(EventPlugin[Ping | Pong]):
        async def handle_event(self, event: Ping | Pong) -> None:
            await trio.lowlevel.checkpoint()
            seen.append(type(event).__name__)

    async with open_plugins(Both) as runtime:
        for event in (Ping(), Pong(), Pong(), Ping()):
            await runtime.publish(event)
    assert seen == ["Ping", "Pong", "Pong", "Ping"]


async def test_concurrency_runs_handlers_side_by_side(autojump_clock: MockClock) -> None:
    """`concurrency = 3` handles three events at a time."""

    class Wide(EventPlugin[Ping]):
        delivery = DeliverySettings(concurrency=3)

        async def handle_event(self, event: Ping) -> None:
            await trio.sleep(1)

    async with open_plugins(Wide) as runtime:
        for _ in range(6):
            await runtime.publish(Ping())
    assert trio.current_time() == pytest.approx(2.0)


async def test_a_hand_written_init_gets_the_app_after_the_settings() -> None:
    """`__init__(self, app)` runs once, and finds the settings set."""

    class ByHand(BackgroundPlugin):
        url: str = "http://127.0.0.1"

        def __init__(self, app: object) -> None:
            super().__init__(self.app)
            self.bucket = f"{self.url}/{self.app.service}"
            assert app is self.app

    async with open_plugins(
        ByHand, settings={"by_hand": {"url": "http://x"}}, service="s"
    ) as runtime:
        assert runtime.get(ByHand).bucket == "http://x/s"


async def test_an_init_that_raises_is_a_start_error() -> None:
    """A failing constructor names its plugin, and nothing has started."""

    class Broken(BackgroundPlugin):
        def __init__(self, app: object) -> None:
            raise ValueError("no")

    with pytest.raises(StartError, match="'broken': its __init__ failed: ValueError") as caught:
        async with open_plugins(Store, Broken):
            pytest.fail("the block must not be entered")
    assert caught.value.plugin == "broken"
    assert notes == []


async def test_an_exception_of_the_embedder_comes_out_as_it_is() -> None:
    """The block's own exception is not wrapped in a group, and the plugins are closed."""
    with pytest.raises(KeyError, match="mine"):
        async with open_plugins(Store):
            raise KeyError("mine")
    assert notes == ["+store", "-store"]


async def test_a_thousand_plugins_start_and_stop() -> None:
    """A thousand plugins all run, and all stop."""
    classes: list[type[Plugin]] = [
        type(f"Many{number}", (BackgroundPlugin,), {}) for number in range(1000)
    ]
    async with open_runtime(Settings(), plugins=classes) as runtime:
        assert {host.status for host in runtime.hosts.values()} == {"running"}
    assert {host.status for host in runtime.hosts.values()} == {"stopped"}
