"""The state that the page shows, and the advice in it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trivet import (
    App,
    BackgroundPlugin,
    Batch,
    BatchPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    Secret,
    Status,
    SupervisionSettings,
    TokenSettings,
)
from trivet._web._page._advice import advice
from trivet._web._page._series import EVERY, Series
from trivet.testing import client, open_plugins

SECRET = "of-a-reader-of-the-page"
TOKENS: Any = [TokenSettings(name="reader", scopes=["read"], secret=Secret(SECRET))]


class Ordered(Event):
    number: int = 0


class Till(EventPlugin[Ordered]):
    delivery = DeliverySettings(buffer=10, block_for=0.0)

    def __init__(self, app: App) -> None:
        self.may_go_on = trio.Event()

    async def handle_event(self, event: Ordered) -> None:
        await self.may_go_on.wait()


class Frail(BackgroundPlugin):
    supervision = SupervisionSettings(max_restarts=100)

    async def run(self) -> None:
        await trio.sleep(1)
        raise ValueError("the password is swordfish")


class Above(BackgroundPlugin):
    needs = (Frail,)


class Sick(BackgroundPlugin):
    async def run(self) -> None:
        self.degrade("no paper", remedy="fill the tray")
        await trio.sleep_forever()


async def state_of(runtime: Any) -> dict[str, Any]:
    """The document that a client with the right to read gets."""
    answer = await client(runtime).get("/-/overview", headers={"Authorization": f"Bearer {SECRET}"})
    assert answer.status_code == 200
    found: dict[str, Any] = await answer.get_json()
    return found


async def test_the_state_of_a_plugin(autojump_clock: MockClock) -> None:
    """The state has the counters and the status of each plugin, and what its reader may do."""
    async with open_plugins(Till, Sick, tokens=TOKENS, service="shop") as runtime:
        for number in range(3):
            await runtime.publish(Ordered(number))
        await trio.testing.wait_all_tasks_blocked()
        state = await state_of(runtime)
        assert (state["service"], state["status"]) == ("shop", "degraded")
        assert state["client"] == {
            "may": {"read": True, "ingest": False, "admin": False},
            "has_tokens": True,
            "token": "reader",
        }
        till = state["plugins"]["till"]
        assert (till["status"], till["queued"], till["in_flight"], till["room"]) == (
            "running",
            2,
            1,
            10,
        )
        sick = state["plugins"]["sick"]
        assert (sick["trouble"], sick["remedy"]) == ("no paper", "fill the tray")
        assert "error" not in till
        assert "queued" not in sick
        runtime.get(Till).may_go_on.set()


class Press(EventPlugin[Ordered]):
    delivery = DeliverySettings(concurrency=2)

    async def handle_event(self, event: Ordered) -> None:
        await trio.sleep(4.0)


class Basket(BatchPlugin[Ordered]):
    delivery = DeliverySettings(batch_size=4, batch_age=0.5)

    async def handle_batch(self, events: Batch[Ordered]) -> None:
        await trio.sleep(5.0)


async def test_the_share_of_the_time_in_which_a_handler_handles(autojump_clock: MockClock) -> None:
    """The share is that of all handlers of a plugin; one that takes batches has none."""
    async with open_plugins(Press, Basket, tokens=TOKENS) as runtime:
        series = Series(runtime)
        series.sample()
        for number in range(4):
            await runtime.publish(Ordered(number))
            await trio.sleep(1.0)
        await trio.sleep(EVERY - 4.0)
        series.sample()
    # Two events at a time, twice 4 s of the 10 s.
    assert series.handling == {"press": pytest.approx(0.8)}
    assert {*series.latencies} == {"press", "basket"}


async def test_no_fact_is_null(autojump_clock: MockClock) -> None:
    """A fact that does not apply is left out: in a difference null says that it is gone."""

    def nulls(value: object) -> bool:
        if isinstance(value, dict):
            return any(map(nulls, value.values()))  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(value, list):
            return any(map(nulls, value))  # pyright: ignore[reportUnknownArgumentType]
        return value is None

    async with open_plugins(Till, Frail, Above, Sick, tokens=TOKENS) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.BACKING_OFF)
        assert not nulls(await state_of(runtime))
        runtime.get(Till).may_go_on.set()


async def test_an_error_is_named_by_its_class(autojump_clock: MockClock) -> None:
    """A reader learns the class of an error, and not its text, which may hold a secret."""
    async with open_plugins(Frail, Above, tokens=TOKENS) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.BACKING_OFF)
        state = await state_of(runtime)
        assert state["plugins"]["frail"]["error"] == "ValueError"
        assert state["plugins"]["above"]["waits_for"] == "frail"
        assert "swordfish" not in repr(state)


async def test_a_crash_loop_comes_first(autojump_clock: MockClock) -> None:
    """A plugin that crashes again and again is bad whatever its status is just now; a plugin that
    waits for it leads to it."""
    async with open_plugins(Frail, Above, Sick, tokens=TOKENS) as runtime:
        frail = runtime.hosts["frail"]
        while frail.restarts < 3 or frail.status is not Status.RUNNING:
            await frail.changed()
        found = (await state_of(runtime))["advice"]
        assert (found[0]["level"], found[0]["plugin"]) == ("bad", "frail")
        assert "3 times" in found[0]["about"]
        assert [each["plugin"] for each in found[1:]] == ["sick"]
        await frail.wait_for_status(Status.BACKING_OFF)
        found = (await state_of(runtime))["advice"]
        assert {(each["level"], each["plugin"]) for each in found} == {
            ("bad", "frail"),
            ("warn", "frail"),  # What waits for it.
            ("warn", "sick"),
        }


class Frantic(BackgroundPlugin):
    supervision = SupervisionSettings(max_restarts=1000, backoff_initial=0.0, backoff_max=0.0)

    async def run(self) -> None:
        await trio.sleep(1)
        raise ValueError("no rate")


async def test_each_start_of_a_crash_loop_counts(autojump_clock: MockClock) -> None:
    """All starts of the last five minutes are counted, though the history has no room for them."""
    async with open_plugins(Frantic, tokens=TOKENS) as runtime:
        frantic = runtime.hosts["frantic"]
        while frantic.restarts < 100:
            await frantic.changed()
        (found,) = (await state_of(runtime))["advice"]
    assert "100 times in five minutes" in found["about"]  # It has failed as often.


async def test_an_inbox_that_drops_events(autojump_clock: MockClock) -> None:
    """The rate at which an inbox drops events is that of the last ten seconds."""

    class Slow(EventPlugin[Ordered]):
        delivery = DeliverySettings(buffer=10, overflow="drop_oldest")

        async def handle_event(self, event: Ordered) -> None:
            await trio.sleep_forever()

    async with open_plugins(Slow) as runtime:
        series = Series(runtime)
        series.sample()
        for number in range(60):
            await runtime.publish(Ordered(number))
        dropped = runtime.statistics()["slow"].dropped
        await trio.sleep(EVERY)
        series.sample()
        assert series.dropping == {"slow": pytest.approx(dropped / EVERY)}
        assert dropped > 0
        await trio.sleep(EVERY)
        series.sample()
        assert series.dropping == {}


@pytest.mark.parametrize("insecure", [False, True])
async def test_a_service_without_doors_says_so(*, insecure: bool) -> None:
    """The page tells that the operator has written `insecure`."""
    async with open_plugins(Sick, tokens=TOKENS, insecure=insecure) as runtime:
        state = await state_of(runtime)
    about = [each["about"] for each in state["advice"] if "insecure" in each["about"]]
    assert (state.get("insecure", False), len(about)) == (insecure, insecure)


def a_state(**plugin: Any) -> dict[str, Any]:
    """A state with one plugin."""
    return {"at": 1000.0, "plugins": {"till": {"status": "running", **plugin}}}


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        (a_state(status="failed", error="KeyError"), "bad", "given up after KeyError"),
        (a_state(status="disabled"), "note", "disabled"),
        (a_state(paused=True, queued=4), "note", "paused; 4 events"),
        (a_state(queued=8, room=10), "bad", "nearly full: 8 of 10"),
        (a_state(queued=8, room=10, dropping=4.8, dropped=97), "bad", "drops 4.8 a second, 97"),
        (a_state(status="degraded", critical=True), "bad", "degraded"),
        (a_state(queued=1, oldest=900.0), "warn", "waited for 2 min"),
        (a_state(handling=0.9, p50=0.19, queued=1), "note", "busy for 90% of the time, 0.19 s"),
        (a_state(stalled=990.0, longest=0.31), "warn", "0.31 s"),
        (a_state(dead_lettered=7), "warn", "7 events"),
        ({**a_state(), "store": {"trouble": "the disk is full"}}, "bad", "the disk is full"),
        ({**a_state(), "store": {"limit": "near its limit"}}, "warn", "near its limit"),
        ({**a_state(), "log": {"trouble": "a pipe is full"}}, "warn", "a pipe is full"),
        ({**a_state(), "unrouted": {"refunded": 2}}, "note", "refunded"),
        ({**a_state(), "insecure": True}, "warn", "insecure"),
    ],
)
def test_advice(state: dict[str, Any], level: str, words: str) -> None:
    """Each thing that is not well is named with its urgency, and with what to do."""
    (found,) = advice(state)
    assert found.level == level
    assert words in found.about
    assert found.remedy


def test_the_remedy_of_a_plugin() -> None:
    """A remedy that a plugin tells with its fault is the advice."""
    (told,) = advice(a_state(status="degraded", trouble="no paper", remedy="fill the tray"))
    (untold,) = advice(a_state(status="degraded", trouble="no paper"))
    assert told.remedy == "Its remedy: fill the tray."
    assert "by itself" in untold.remedy


@pytest.mark.parametrize(
    "state",
    [
        a_state(),
        a_state(queued=7, room=10, oldest=950.0),
        a_state(queued=10**6),
        a_state(handling=0.8, p50=0.19),
    ],
)
def test_no_advice(state: dict[str, Any]) -> None:
    """A plugin that is well is not named: an inbox with room, without a limit, with events of
    now."""
    assert advice(state) == []
