"""The probes `/livez` and `/readyz`, and `/plugins`."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from trivet import (
    App,
    BackgroundPlugin,
    Event,
    EventPlugin,
    Runtime,
    Secret,
    Status,
    SupervisionSettings,
    TokenSettings,
)
from trivet._supervision import _orders
from trivet.testing import client, open_plugins


class Ping(Event):
    pass


class Pong(EventPlugin[Ping]):
    """A plugin that runs, and fails for every second event."""

    def __init__(self, app: App) -> None:
        self.count = 0

    async def handle_event(self, event: Ping) -> None:
        self.count += 1
        if self.count % 2 == 0:
            raise ValueError("even")


class Frail(BackgroundPlugin):
    """A plugin that does not run for long."""

    supervision = SupervisionSettings(max_restarts=1, backoff_initial=60, backoff_max=60)

    async def run(self) -> None:
        raise OSError("no water")


class Important(Frail):
    """A critical plugin of that kind: the service is not ready without it."""

    supervision = SupervisionSettings(critical=True, backoff_initial=60, backoff_max=60)


async def test_alive() -> None:
    """`/livez` is 200 as long as anything answers, also while the service stops."""
    async with open_plugins(Pong) as runtime:
        assert (await client(runtime).get("/livez")).status_code == 200
        runtime.stopping.set()
        assert (await client(runtime).get("/livez")).status_code == 200


async def test_started(autojump_clock: MockClock) -> None:
    """`/startupz` is 200 once anything answers, also while a plugin's start is tried again."""

    class Late(BackgroundPlugin):
        supervision = SupervisionSettings(on_start_failure="retry", backoff_initial=60)

        async def initialize(self) -> None:
            raise OSError("not yet")

    async with open_plugins(Late) as runtime:
        response = await client(runtime).get("/startupz")
        assert (response.status_code, await response.get_json()) == (200, {"status": "started"})


async def test_ready() -> None:
    """A service is ready when everything runs, and lists nothing."""
    async with open_plugins(Pong) as runtime:
        response = await client(runtime).get("/readyz")
    assert response.status_code == 200
    assert await response.get_json() == {"status": "ready", "plugins": {}}


async def test_degraded(autojump_clock: MockClock) -> None:
    """A plugin that backs off or has given up leaves the service ready, and is listed."""
    async with open_plugins(Pong, Frail) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.BACKING_OFF)
        asking = client(runtime)
        response = await asking.get("/readyz")
        assert response.status_code == 200
        assert await response.get_json() == {
            "status": "degraded",
            "plugins": {"frail": "backing_off"},
        }
        await runtime.hosts["frail"].wait_for_status(Status.FAILED)
        response = await asking.get("/readyz")
    assert response.status_code == 200
    assert await response.get_json() == {"status": "degraded", "plugins": {"frail": "failed"}}


async def test_not_ready_without_a_critical_plugin(autojump_clock: MockClock) -> None:
    """A critical plugin that does not run makes the service unready, and is named."""
    async with open_plugins(Pong, Important) as runtime:
        await runtime.hosts["important"].wait_for_status(Status.BACKING_OFF)
        response = await client(runtime).get("/readyz")
    assert response.status_code == 503
    problem = await response.get_json()
    assert problem["error_code"] == "not_ready"
    assert "'important' is backing_off" in problem["detail"]
    assert problem["plugins"] == {"important": "backing_off"}


@pytest.mark.parametrize(("critical", "code"), [(False, 200), (True, 503)])
async def test_a_plugin_that_reports_trouble(critical: bool, code: int) -> None:
    """A plugin with trouble makes the service degraded, or not ready if critical, until it
    recovers."""

    class Link(BackgroundPlugin):
        supervision = SupervisionSettings(critical=critical)

    async with open_plugins(Link) as runtime:
        asking = client(runtime)
        runtime.get(Link).degrade("no broker")
        response = await asking.get("/readyz")
        document = await response.get_json()
        assert (response.status_code, document["plugins"]) == (code, {"link": "degraded"})
        described = await (await asking.get("/plugins")).get_json()
        assert described["plugins"]["link"]["trouble"] == "no broker"
        runtime.get(Link).recover()
        assert await (await asking.get("/readyz")).get_json() == {"status": "ready", "plugins": {}}


async def test_not_ready_once_the_stop_has_begun() -> None:
    """A service that stops is not ready: 503, with the time after which to ask again."""
    async with open_plugins(Pong) as runtime:
        runtime.stopping.set()
        response = await client(runtime).get("/readyz")
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert (await response.get_json())["error_code"] == "stopping"


async def test_every_plugin_is_described(autojump_clock: MockClock) -> None:
    """`/plugins` has the status of each plugin, its subscriptions, and the fates of its events."""

    class Lost(Event):
        pass

    async with open_plugins(Pong, Frail, event_types=[Lost]) as runtime:
        for _ in range(3):
            await runtime.publish(Ping(), wait=True)
        await runtime.publish(Lost())
        await trio.testing.wait_all_tasks_blocked()
        response = await client(runtime).get("/plugins")
    assert response.status_code == 200
    document = await response.get_json()
    assert document["plugins"]["frail"] == {
        "class": "Frail",
        "status": "backing_off",
        "paused": False,
        "critical": False,
        "trouble": None,
        "remedy": None,
        "waits_for": None,
        "restarts": 0,
        "error": "OSError",
        "routes": [],
        "listens_to": [],
        "usage": None,
        "durable": False,
        "inbox": None,
    }
    pong = document["plugins"]["pong"]
    inbox = pong.pop("inbox")
    assert pong == {
        "class": "Pong",
        "status": "running",
        "paused": False,
        "critical": False,
        "trouble": None,
        "remedy": None,
        "waits_for": None,
        "restarts": 0,
        "error": None,
        "routes": [],
        "listens_to": ["ping"],
        "usage": None,
        "durable": False,
    }
    assert (inbox["accepted"], inbox["handled"], inbox["failed"]) == (3, 2, 1)
    assert document["unrouted"]["lost"] == 1


async def test_the_error_of_a_group(autojump_clock: MockClock) -> None:
    """A group of one error is described by the class of that error, and a larger one is not."""

    class Alone(Frail):
        async def run(self) -> None:
            raise ExceptionGroup("outer", [ExceptionGroup("inner", [OSError("no water")])])

    class Several(Frail):
        async def run(self) -> None:
            raise ExceptionGroup("outer", [OSError("no water"), ValueError("no tea")])

    async with open_plugins(Alone, Several) as runtime:
        await trio.testing.wait_all_tasks_blocked()
        described = (await (await client(runtime).get("/plugins")).get_json())["plugins"]
    assert described["alone"]["error"] == "OSError"
    assert described["several"]["error"] == "ExceptionGroup"


@pytest.mark.parametrize("path", ["/livez", "/startupz", "/readyz", "/plugins"])
async def test_probes_call_no_plugin(path: str) -> None:
    """A plugin whose every attribute is a trap is not touched by a probe."""

    class Trap(BackgroundPlugin):
        def __getattribute__(self, name: str) -> object:
            if name not in (
                "initialize",
                "run",
                "close",
                "__class__",
                "_trivet",
                "log",
            ):
                touched.append(name)
            return super().__getattribute__(name)

    touched: list[str] = []
    async with open_plugins(Trap) as runtime:
        asking = client(runtime)
        touched.clear()
        assert (await asking.get(path)).status_code == 200
        assert not touched


class Broken(BackgroundPlugin):
    """A plugin that knows what is to be done."""

    async def run(self) -> None:
        self.degrade("the broker refuses", remedy="renew the password")
        await trio.sleep_forever()


class Untroubled(BackgroundPlugin):
    async def run(self) -> None:
        await trio.sleep_forever()


async def checks(runtime: Runtime, status: int) -> dict[str, dict[str, object]]:
    """The checks of `/readyz?verbose`, by what they look at."""
    answer = await client(runtime).get("/readyz?verbose")
    assert answer.status_code == status
    return {each.pop("check"): each for each in (await answer.get_json())["checks"]}


async def test_a_fault_says_what_to_do(autojump_clock: MockClock) -> None:
    """A plugin's remedy stands beside its reason, until it recovers."""
    with capture_logs() as lines:
        async with open_plugins(Broken, Untroubled) as runtime:
            await wait_all_tasks_blocked()
            found = await checks(runtime, 200)
            plugins = await (await client(runtime).get("/plugins")).get_json()
            runtime.get(Broken).recover()
            after = await checks(runtime, 200)
    assert found["plugin broken"]["is_well"] is False
    assert found["plugin broken"]["reason"] == "the broker refuses"
    assert found["plugin broken"]["remedy"] == "renew the password"
    assert found["plugin untroubled"]["is_well"] is True
    assert plugins["plugins"]["broken"]["remedy"] == "renew the password"
    assert [each["remedy"] for each in lines if each["event"] == "plugin is degraded"] == [
        "renew the password"
    ]
    assert after["plugin broken"]["is_well"] is True
    assert after["plugin broken"]["remedy"] is None


async def test_a_service_that_is_not_ready_says_what_to_do(autojump_clock: MockClock) -> None:
    """The 503 has the checks too: a plugin that was given up needs an operator."""
    async with open_plugins(Important, Frail) as runtime:
        await wait_all_tasks_blocked()
        found = await checks(runtime, 503)
        assert found["plugin important"]["is_critical"] is True
        assert found["plugin important"]["reason"] == "OSError"
        assert found["plugin important"]["remedy"] is None  # It starts again by itself.


async def test_the_orders_that_help_a_plugin_on() -> None:
    """A plugin that is paused or disabled says which order lets it go on."""
    async with open_plugins(Pong, Untroubled) as runtime:
        _orders.pause(runtime.host("pong"))
        _orders.disable(runtime.host("untroubled"), runtime.program.settings.shutdown)
        await runtime.host("untroubled").wait_for_status(Status.DISABLED)
        found = await checks(runtime, 200)
    assert found["plugin pong"]["remedy"] == "trivet resume pong"
    assert found["plugin untroubled"]["remedy"] == "trivet enable untroubled"


async def test_reasons_are_for_those_who_may_read() -> None:
    """`/readyz` is open to anybody, and `/readyz?verbose` to a token for `read`."""
    token: Any = TokenSettings(name="scraper", scopes=["read"], secret=Secret("s" * 32))
    async with open_plugins(Broken, tokens=[token]) as runtime:
        http = client(runtime)
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/readyz?verbose")).status_code == 401
        headers = {"Authorization": "Bearer " + "s" * 32}
        assert (await http.get("/readyz?verbose", headers=headers)).status_code == 200
