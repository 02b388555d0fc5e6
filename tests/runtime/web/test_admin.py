"""The requests of an operator."""

from __future__ import annotations

from typing import Any

import pytest

from trivet import (
    BackgroundPlugin,
    ConfigurationError,
    Secret,
    Status,
    SupervisionSettings,
    load_settings,
)
from trivet.testing import client, open_plugins

TOKEN = "a-token-of-an-operator"


class Frail(BackgroundPlugin):
    supervision = SupervisionSettings(max_restarts=0)

    async def initialize(self) -> None:
        self._lives: int = getattr(self, "_lives", 0) + 1

    async def run(self) -> None:
        if self._lives == 1:
            raise ValueError("frail")


class Above(BackgroundPlugin):
    needs = (Frail,)


async def test_an_operator_lifts_a_quarantine() -> None:
    """`POST /plugins/{name}/restart` starts a plugin that was given up again, and those that need
    it."""
    async with open_plugins(Frail, Above, admin_token=Secret(TOKEN)) as runtime:
        await runtime.hosts["frail"].reached(Status.FAILED)
        asking = client(runtime)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await asking.post("/plugins/above/restart", headers=headers)
        problem = await answer.get_json()
        assert (answer.status_code, problem["error_code"]) == (409, "restart_refused")
        assert "needs 'frail', which is failed" in problem["detail"]
        answer = await asking.post("/plugins/frail/restart", headers=headers)
        assert answer.status_code == 202
        assert (await answer.get_json())["plugin"] == "frail"
        await runtime.hosts["above"].reached(Status.RUNNING)


async def test_a_plugin_that_is_not_there() -> None:
    """An unknown plugin is a 404, with the nearest name."""
    async with open_plugins(Frail, admin_token=Secret(TOKEN)) as runtime:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client(runtime).post("/plugins/frial/restart", headers=headers)
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
    async with open_plugins(Frail, admin_token=Secret(TOKEN)) as runtime:
        await runtime.hosts["frail"].reached(Status.FAILED)
        answer = await client(runtime).post("/plugins/frail/restart", headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert runtime.hosts["frail"].status is Status.FAILED


async def test_a_service_without_a_token_restarts_nothing() -> None:
    """Every token is a 403 where the operator has set none."""
    async with open_plugins(Frail) as runtime:
        headers = {"Authorization": "Bearer None"}
        answer = await client(runtime).post("/plugins/frail/restart", headers=headers)
    assert answer.status_code == 403


def test_a_token_is_long_and_stays_secret() -> None:
    """A short token is refused without being shown, and a good one is in no representation."""
    with pytest.raises(ConfigurationError, match="TRIVET_ADMIN_TOKEN") as caught:
        load_settings(environ={"TRIVET_ADMIN_TOKEN": "short-secret"})
    assert "short-secret" not in str(caught.value)
    assert TOKEN not in repr(load_settings(environ={"TRIVET_ADMIN_TOKEN": TOKEN}))
