"""The requests of an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet import (
    App,
    BackgroundPlugin,
    ConfigurationError,
    Event,
    EventPlugin,
    OperatorActionEvent,
    Secret,
    Status,
    SupervisionSettings,
    TokenSettings,
    load_settings,
    route,
)
from trivet.testing import client, open_plugins

TOKEN = "a-token-of-an-operator"
TOKENS = [TokenSettings(name="operator", scopes=["admin"], secret=Secret(TOKEN))]


class Frail(BackgroundPlugin):
    supervision = SupervisionSettings(max_restarts=0)

    async def initialize(self) -> None:
        self._lives: int = getattr(self, "_lives", 0) + 1

    async def run(self) -> None:
        if self._lives == 1:
            raise ValueError("frail")


class Above(BackgroundPlugin):
    needs = (Frail,)


class Vital(BackgroundPlugin):
    supervision = SupervisionSettings(critical=True)


class Ordered(Event):
    pass


class Kitchen(EventPlugin[Ordered]):
    @route("/menu", scope=None)
    async def menu(self) -> str:
        return "tea"

    async def handle_event(self, event: Ordered) -> None:
        self.log.info("cooking")


class Auditor(EventPlugin[OperatorActionEvent]):
    def __init__(self, app: App) -> None:
        self.seen: list[OperatorActionEvent] = []

    async def handle_event(self, event: OperatorActionEvent) -> None:
        self.seen.append(event)


async def test_an_operator_lifts_a_quarantine() -> None:
    """`POST /-/plugins/{name}/restart` starts a plugin that was given up again, and those that need
    it."""
    async with open_plugins(Frail, Above, tokens=TOKENS) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.FAILED)
        asking = client(runtime)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await asking.post("/-/plugins/above/restart", headers=headers)
        problem = await answer.get_json()
        assert (answer.status_code, problem["error_code"]) == (409, "order_refused")
        assert "needs 'frail', which is failed" in problem["detail"]
        answer = await asking.post("/-/plugins/frail/restart", headers=headers)
        assert answer.status_code == 202
        assert (await answer.get_json())["plugin"] == "frail"
        await runtime.hosts["above"].wait_for_status(Status.RUNNING)


async def test_an_action_is_an_event() -> None:
    """An action that is done is an `operator_action_event` with the token's name; a refused one is
    none."""
    async with open_plugins(Frail, Above, Auditor, tokens=TOKENS) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.FAILED)
        asking, headers = client(runtime), {"Authorization": f"Bearer {TOKEN}"}
        for name in ("frial", "above", "frail"):
            await asking.post(f"/-/plugins/{name}/restart", headers=headers)
            await asking.post(f"/-/plugins/{name}/restart")
        auditor = runtime.get(Auditor)
    assert auditor.seen == [OperatorActionEvent(action="restart", plugin="frail", token="operator")]


async def test_an_action_is_logged() -> None:
    """The log has each action, with the plugin and the token's name."""
    with capture_logs() as logs:
        async with open_plugins(Auditor, tokens=TOKENS) as runtime:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            await client(runtime).post("/-/plugins/auditor/restart", headers=headers)
    found = [line for line in logs if line["event"] == "an operator has acted"]
    facts = [(line["action"], line["plugin"], line["token"]) for line in found]
    assert facts == [("restart", "auditor", "operator")]


async def test_orders(autojump_clock: MockClock) -> None:
    """A plugin is paused, resumed, disabled, enabled; each change is an event with its reason."""
    async with open_plugins(Frail, Kitchen, Auditor, tokens=TOKENS) as runtime:
        asking, headers = client(runtime), {"Authorization": f"Bearer {TOKEN}"}

        async def order(action: str, query: str = "") -> tuple[int, Any]:
            answer = await asking.post(f"/-/plugins/kitchen/{action}{query}", headers=headers)
            return answer.status_code, await answer.get_json()

        status, document = await order("pause", "?reason=the%20oven%20burns")
        assert (status, document["status"], document["paused"]) == (200, "running", True)
        ready = await (await asking.get("/readyz")).get_json()
        assert (ready["status"], ready["paused"]) == ("degraded", ["kitchen"])
        assert (await order("pause"))[0] == 200  # Nothing is changed.
        status, document = await order("resume")
        assert (status, document["paused"]) == (200, False)
        status, document = await order("disable", "?reason=")
        assert (status, document["status"]) == (202, "stopping")
        await runtime.host("kitchen").wait_for_status(Status.DISABLED)
        answer = await asking.get("/menu")
        problem = await answer.get_json()
        assert (answer.status_code, problem["error_code"]) == (503, "plugin_unavailable")
        assert problem["detail"] == "plugin 'kitchen' is not running: disabled by an operator"
        assert "Retry-After" not in answer.headers
        assert (await order("enable"))[0] == 202
        await runtime.host("kitchen").wait_for_status(Status.RUNNING)
        assert (await asking.get("/menu")).status_code == 200
        auditor = runtime.get(Auditor)
    assert [(event.action, event.reason) for event in auditor.seen] == [
        ("pause", "the oven burns"),
        ("resume", None),
        ("disable", None),
        ("enable", None),
    ]


async def test_orders_that_are_refused() -> None:
    """An order that cannot be carried out is a 409 that says what to do, and no event."""
    async with open_plugins(Kitchen, Above, Frail, Vital, Auditor, tokens=TOKENS) as runtime:
        asking, headers = client(runtime), {"Authorization": f"Bearer {TOKEN}"}
        for path, why in (
            ("vital/disable", "is critical: the service would not be ready; stop the program"),
            ("above/pause", "takes no events, so that nothing is to be paused; disable it instead"),
        ):
            answer = await asking.post(f"/-/plugins/{path}", headers=headers)
            problem = await answer.get_json()
            assert (answer.status_code, problem["error_code"]) == (409, "order_refused")
            assert why in problem["detail"]
        auditor = runtime.get(Auditor)
    assert auditor.seen == []


async def test_the_former_path_is_gone() -> None:
    """`POST /plugins/{name}/restart` is a 404, token or not."""
    async with open_plugins(Frail, tokens=TOKENS) as runtime:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client(runtime).post("/plugins/frail/restart", headers=headers)
    assert answer.status_code == 404


async def test_a_plugin_that_is_not_there() -> None:
    """An unknown plugin is a 404, with the nearest name."""
    async with open_plugins(Frail, tokens=TOKENS) as runtime:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client(runtime).post("/-/plugins/frial/restart", headers=headers)
    assert answer.status_code == 404
    assert "did you mean 'frail'" in (await answer.get_json())["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer ünrecht"},
        {"Authorization": f"Bearer {TOKEN}x"},
    ],
)
async def test_a_request_without_the_token_is_refused(headers: Any) -> None:
    """A request without the token is a 401 with the way to be let in, and nothing is restarted."""
    async with open_plugins(Frail, tokens=TOKENS) as runtime:
        await runtime.hosts["frail"].wait_for_status(Status.FAILED)
        answer = await client(runtime).post("/-/plugins/frail/restart", headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert runtime.hosts["frail"].status is Status.FAILED


async def test_a_service_without_a_token_restarts_nothing() -> None:
    """Every token is a 403 where the operator has set none."""
    async with open_plugins(Frail) as runtime:
        headers = {"Authorization": "Bearer None"}
        answer = await client(runtime).post("/-/plugins/frail/restart", headers=headers)
    assert answer.status_code == 403


def test_the_old_setting_is_refused_with_the_new_form(tmp_path: Path) -> None:
    """`admin_token`, in the file or the environment, is an error that shows the new form, and not
    the token."""
    file = tmp_path / "trivet.toml"
    file.write_text(f'admin_token = "{TOKEN}"')
    for place, config, environ in (
        (f"{file}: admin_token: ", file, {}),
        ("TRIVET_ADMIN_TOKEN: ", None, {"TRIVET_ADMIN_TOKEN": TOKEN}),
    ):
        with pytest.raises(ConfigurationError) as caught:
            load_settings(config, environ=environ)
        assert str(caught.value).startswith(place)
        assert '`[[tokens]]` with `name = "operator"`, `scopes = ["admin"]`' in str(caught.value)
        assert TOKEN not in str(caught.value)


async def test_no_parent_would_start_a_new_program() -> None:
    """A program in another one's process cannot be restarted as a whole."""
    async with open_plugins(Frail, tokens=TOKENS) as runtime:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client(runtime).post("/-/restart", headers=headers)
        document: Any = await answer.get_json()
        assert (answer.status_code, document["error_code"]) == (409, "order_refused")
