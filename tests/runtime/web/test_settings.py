"""The settings of a running program over HTTP."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from trivet import OperatorActionEvent, Runtime, Secret, TokenSettings, listening
from trivet.testing import client, open_plugins

from ..reload.programs import Files

pytestmark = pytest.mark.real_time

TOKEN, READER = "a-token-of-an-operator", "a-token-of-a-reader"
SETTINGS = f"""
active_plugins = ["greeter", "auditor"]
[[tokens]]
name = "operator"
scopes = ["admin", "read"]
secret = "{TOKEN}"
[[tokens]]
name = "reader"
scopes = ["read"]
secret = "{READER}"
"""
GREETER = """
class Greeter(BackgroundPlugin):
    word: str = "hello"
    key: Secret = Secret("open-sesame")

class Auditor(EventPlugin[OperatorActionEvent]):
    name = "auditor"

    async def initialize(self) -> None:
        self.seen = []

    async def handle_event(self, event: OperatorActionEvent) -> None:
        self.seen.append(event)
"""
PATCH = {"Content-Type": "application/merge-patch+json", "If-Match": "*"}


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncGenerator[tuple[Files, Runtime, httpx.AsyncClient]]:
    """Serve a program; the client has the operator's token."""
    files = Files(tmp_path)
    files.plugin("greeter", GREETER)
    files.settings(SETTINGS.replace('"greeter", "auditor"', '"greeter"'))
    async with files.running() as (runtime, _), listening(runtime, "127.0.0.1:0") as urls:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=urls[0], headers=headers) as asking:
            yield files, runtime, asking


def by_key(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a document by their keys."""
    return {each["key"]: each for each in document["settings"]}


async def test_settings_are_seen_with_their_origins(tmp_path: Path) -> None:
    """Each with its value and origin, secrets masked, under a tag, to a token for `admin` alone."""
    async with served(tmp_path) as (files, _, asking):
        answer = await asking.get("/-/settings")
        assert answer.status_code == 200, answer.text
        assert answer.headers["etag"].startswith('"')
        found = by_key(answer.json())
        assert found["plugins.greeter.word"]["value"] == "hello"
        assert found["plugins.greeter.key"]["value"] == "***"
        assert found["tokens[0].name"]["origin"] == "file"
        assert answer.json()["overlay"] == {"file": str(files.overlay), "keys": []}
        for secret in (TOKEN, READER, "open-sesame"):
            assert secret not in answer.text
        reader = {"Authorization": f"Bearer {READER}"}
        assert (await asking.get("/-/settings", headers=reader)).status_code == 403
        answer = await asking.patch("/-/settings", headers=PATCH | reader, json={"max_body": 1})
        assert answer.status_code == 403


async def test_a_change_is_told_without_its_values(tmp_path: Path) -> None:
    """The answer has the changes and the new tag; the event has the token, the reason, the keys."""
    async with served(tmp_path) as (files, runtime, asking):
        tag = (await asking.get("/-/settings")).headers["etag"]
        patch = {"max_body": 5000, "plugins": {"greeter": {"word": "ho", "key": "new-secret-key"}}}
        with capture_logs() as lines:
            answer = await asking.patch(
                "/-/settings?reason=louder", headers=PATCH | {"If-Match": tag}, json=patch
            )
        assert answer.status_code == 200, answer.text
        assert [each["what"] for each in answer.json()["changes"]] == [
            "max_body",
            "plugins.greeter",
        ]
        seen = await asking.get("/-/settings")
        assert seen.headers["etag"] == answer.headers["etag"] != tag
        assert by_key(seen.json())["max_body"]["origin"] == "overlay"
        keys = ["max_body", "plugins.greeter.key", "plugins.greeter.word"]
        assert seen.json()["overlay"]["keys"] == keys
        auditor: Any = runtime.hosts["auditor"].plugin
        with_token: OperatorActionEvent = auditor.seen[-1]
        assert (with_token.action, with_token.token) == ("settings", "operator")
        assert with_token.reason == "louder"
        assert sorted(with_token.settings) == keys
        assert "new-secret-key" not in f"{lines} {answer.text} {seen.text}"
        assert "new-secret-key" in files.overlay.read_text()


async def test_a_request_needs_the_version_that_was_seen(tmp_path: Path) -> None:
    """428 without `If-Match`, 412 with one that does not fit; `*` fits always."""
    async with served(tmp_path) as (files, _, asking):
        tag = (await asking.get("/-/settings")).headers["etag"]
        statuses: list[tuple[int, str]] = []
        for given in (None, '"another"', f"W/{tag}", f'{tag}, "b"', tag, tag, "*"):
            headers = (
                {**PATCH, "If-Match": given} if given else {"Content-Type": PATCH["Content-Type"]}
            )
            answer = await asking.patch("/-/settings", headers=headers, json={"max_body": 9000})
            document = answer.json()
            statuses.append((answer.status_code, document.get("error_code", "")))
            assert answer.status_code == document.get("status", 200)
        failed = (412, "precondition_failed")
        assert statuses == [
            (428, "precondition_required"),
            *[failed] * 3,
            (200, ""),
            failed,
            (200, ""),
        ]
        assert tomllib.loads(files.overlay.read_text()) == {"max_body": 9000}


async def test_an_answer_has_the_version_of_its_own_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that another one follows before its answer is sent does not answer with the other's
    version: who has it is refused."""
    async with served(tmp_path) as (_, runtime, asking):
        reloads: Any = runtime.reloads
        change = reloads.change_settings

        async def change_twice(patch: Mapping[str, Any], version: str | None) -> Any:
            made = await change(patch, version)
            await change({"max_body": 2000}, None)
            return made

        with monkeypatch.context() as patched:
            patched.setattr(reloads, "change_settings", change_twice)
            answer = await asking.patch("/-/settings", headers=PATCH, json={"max_body": 1000})
        headers = {**PATCH, "If-Match": answer.headers["etag"]}
        answer = await asking.patch("/-/settings", headers=headers, json={"max_body": 1001})
        assert answer.status_code == 412
        assert runtime.program.settings.max_body == 2000


async def test_every_fault_is_told_and_nothing_changes(tmp_path: Path) -> None:
    """409, with a line for each, and the nearest spelling of a key."""
    async with served(tmp_path) as (files, _, asking):
        patch = {"max_bodi": 1, "max_connections": 0}
        answer = await asking.patch("/-/settings", headers=PATCH, json=patch)
        assert answer.status_code == 409
        assert answer.json()["error_code"] == "settings_refused"
        first, second = sorted(answer.json()["faults"])
        assert "max_bodi" in first
        assert "'max_body'" in first
        assert "max_connections" in second
        assert not files.overlay.exists()


async def test_a_body_that_is_no_patch_is_refused(tmp_path: Path) -> None:
    """415 by another media type, 400 for what is no JSON object."""
    async with served(tmp_path) as (_, _, asking):
        other = PATCH | {"Content-Type": "application/json"}
        answer = await asking.patch("/-/settings", headers=other, content=b"{}")
        assert (answer.status_code, answer.headers["accept-patch"]) == (415, PATCH["Content-Type"])
        for body in (b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"a": "\\ud800"}'):
            answer = await asking.patch("/-/settings", headers=PATCH, content=body)
            assert (answer.status_code, answer.json()["error_code"]) == (400, "invalid_patch")


async def test_an_operator_can_exchange_tokens_but_not_leave_the_doors_open(tmp_path: Path) -> None:
    """The new secret opens the door from the next request on; faulty tokens change nothing."""
    async with served(tmp_path) as (_, _, asking):
        new = {"name": "operator", "scopes": ["admin"], "secret": "a-new-token-of-an-operator"}
        answer = await asking.patch(
            "/-/settings", headers=PATCH, json={"tokens": [{**new, "secret": "short"}]}
        )
        assert answer.status_code == 409
        assert (await asking.patch("/-/settings", headers=PATCH, json={"tokens": [new]})).is_success
        assert (await asking.get("/-/plugins")).status_code == 401
        headers = {"Authorization": "Bearer a-new-token-of-an-operator"}
        assert (await asking.get("/-/plugins", headers=headers)).status_code == 200


async def test_the_settings_of_an_embedder_are_seen_and_stay() -> None:
    """Their origin is the program, and a change is 409."""
    tokens = [TokenSettings(name="operator", scopes=["admin", "read"], secret=Secret(TOKEN))]
    async with open_plugins(tokens=tokens) as runtime:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = await client(runtime).get("/-/settings", headers=headers)
        document = await answer.get_json()
        assert by_key(document)["tokens[0].name"]["origin"] == "program"
        assert by_key(document)["max_body"]["origin"] == "default"
        assert document["overlay"] is None
        assert "etag" not in answer.headers
        answer = await client(runtime).patch("/-/settings", headers=headers | PATCH, data=b"{}")
        assert answer.status_code == 409
        assert "code around Trivet" in (await answer.get_json())["detail"]
