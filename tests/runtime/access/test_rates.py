"""Rates: of a token's requests, and of events that come from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trivet import (
    BackgroundPlugin,
    ConfigurationError,
    Event,
    Secret,
    TokenSettings,
    load_settings,
    route,
)
from trivet._access._rates import EventRates, Rate
from trivet.testing import client, open_plugins

SECRET = "of-a-client-in-a-hurry"


class Ping(Event):
    number: int = 0


class Pong(Event):
    number: int = 0


class Shop(BackgroundPlugin):
    @route("/shop")
    async def shop(self) -> str:
        return "open"

    @route("/public", scope=None)
    async def public(self) -> str:
        return "open"


@pytest.mark.parametrize(("per_second", "burst"), [(10, 10), (1, 1), (0.5, 1), (2.5, 2)])
async def test_a_rate(per_second: float, burst: int, autojump_clock: MockClock) -> None:
    """The number of one second may come at once, then one at a time; a rest is not saved up."""
    rate = Rate(per_second)
    assert rate.burst == burst
    for _ in range(burst):
        assert rate.wait() == 0
        rate.take()
    for _ in range(3):
        assert 0 < rate.wait() <= 1 / per_second + 0.001
        await trio.sleep(rate.wait())
        rate.take()
    await trio.sleep(1000)
    for _ in range(burst):
        assert rate.wait() == 0
        rate.take()
    assert rate.wait() > 0


async def test_several_events_are_counted_together_or_not_at_all(autojump_clock: MockClock) -> None:
    """If one type has to wait, none is counted; a type without a rate never waits."""
    rates = EventRates({"a": 1.0, "b": 1.0})
    assert rates.take({"a": 1, "c": 100}) == 0
    assert rates.take({"a": 1, "b": 1}) == pytest.approx(1)
    assert rates.take({"b": 3}) == 0
    assert rates.take({"b": 1}) == pytest.approx(3)
    assert rates.take({"c": 100}) == 0
    assert not EventRates({})


async def test_a_token_that_asks_too_often(autojump_clock: MockClock) -> None:
    """Requests beyond a token's rate are a 429 with Retry-After; public routes, probes and other
    tokens are not concerned."""
    tokens: Any = [
        TokenSettings(name="hasty", scopes=["read"], secret=Secret(SECRET), rate=2.0),
        TokenSettings(name="calm", scopes=["read"], secret=Secret("of-another-client")),
    ]
    async with open_plugins(Shop, tokens=tokens) as runtime:
        asking = client(runtime)
        hasty, calm = (
            {"Authorization": f"Bearer {secret}"} for secret in (SECRET, "of-another-client")
        )
        for _ in range(2):
            assert (await asking.get("/shop", headers=hasty)).status_code == 200
        answer = await asking.get("/plugins", headers=hasty)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        problem: Any = await answer.get_json()
        assert problem["error_code"] == "too_many_requests"
        for path, headers in (("/public", hasty), ("/livez", hasty), ("/shop", calm)):
            assert (await asking.get(path, headers=headers)).status_code == 200
        await trio.sleep(0.5)
        assert (await asking.get("/shop", headers=hasty)).status_code == 200


async def test_too_many_events_of_a_type(autojump_clock: MockClock) -> None:
    """Events beyond their type's rate are a 429 with Retry-After, however they come; of a batch
    with one of them nothing is published; other types are not concerned."""
    async with open_plugins(event_types=[Ping, Pong], event_rates={"ping": 1.0}) as runtime:
        asking = client(runtime)

        async def batch(*names: str) -> int:
            said: dict[str, object] = {"specversion": "1.0", "source": "x", "data": {}}
            events = [{**said, "id": str(n), "type": name} for n, name in enumerate(names)]
            kind = {"Content-Type": "application/cloudevents-batch+json"}
            answer = await asking.post("/events", data=json.dumps(events), headers=kind)
            return answer.status_code

        assert (await asking.post("/events/ping", json={})).status_code == 202
        answer = await asking.post("/events/ping", json={})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        problem: Any = await answer.get_json()
        assert problem["error_code"] == "too_many_requests"
        assert await batch("pong", "ping") == 429
        assert await batch("pong") == 202
        assert dict(runtime.unrouted) == {"ping": 1, "pong": 1}
        await trio.sleep(1)
        assert await batch("ping", "ping", "ping") == 202
        assert (await asking.post("/events/ping", json={})).headers["Retry-After"] == "3"


async def test_a_stream_of_lines_is_slowed_down(autojump_clock: MockClock) -> None:
    """A stream that is faster than its type's rate is taken in at that rate, and all of it."""
    async with open_plugins(event_types=[Ping], event_rates={"ping": 10.0}) as runtime:
        begun = trio.current_time()
        lines = {"Content-Type": "application/x-ndjson"}
        answer = await client(runtime).post("/events/ping", data=b"{}\n" * 100, headers=lines)
        document: Any = await answer.get_json()
        assert (answer.status_code, document["unrouted"]) == (202, 100)
        assert 8 < trio.current_time() - begun < 12


def test_wrong_rates(tmp_path: Path) -> None:
    """A rate that is not positive, and one of an unknown event, are faults."""
    file = tmp_path / "trivet.toml"
    file.write_text("[event_rates]\nping = 0\n")
    with pytest.raises(ConfigurationError, match="event_rates"):
        load_settings(file, environ={})
    settings = load_settings(None, environ={"TRIVET_EVENT_RATES__PING": "2.5"})
    assert settings.event_rates == {"ping": 2.5}


async def test_the_rate_of_an_unknown_event() -> None:
    """A misspelt event in `event_rates` is a fault of the start."""
    with pytest.raises(ConfigurationError, match=r"event_rates: no event is named 'pnig': did"):
        async with open_plugins(event_types=[Ping], event_rates={"pnig": 1.0}):
            pass
