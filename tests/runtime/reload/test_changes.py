"""Settings that an operator changes while a program runs: the overlay."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import trio

from trivet import ConfigurationError, ReloadRefusedError
from trivet._faults._errors import StaleSettingsError
from trivet._program._origins import effective_settings
from trivet._program._overlay_file import Draft

from .programs import COUNTING, Files

ACTIVE = 'active_plugins = ["counting"]\n'


def content(files: Files) -> Any:
    """The overlay's content; empty without the file."""
    return tomllib.loads(files.overlay.read_text()) if files.overlay.exists() else {}


async def test_a_change_is_applied_and_written(files: Files) -> None:
    """A plugin is replaced and a limit holds; the settings' file stays as it is, and a reload and
    the next start see the overlay."""
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE + "max_body = 1000\n# by hand")
    before = files.toml.read_bytes()
    async with files.running() as (runtime, reloader):
        changes, _ = await reloader.change_settings(
            {"max_body": 2000, "plugins": {"counting": {"step": 10}}}, None
        )
        assert [(each.what, each.result) for each in changes] == [
            ("max_body", "changed"),
            ("plugins.counting", "replaced"),
        ]
        number: Any = runtime.events["number"]
        await runtime.publish(number(2), wait=True)
        plugin: Any = runtime.hosts["counting"].plugin
        assert plugin.seen == [20]
        assert await reloader.reload() == ()
        found = {
            each.key: each for each in effective_settings(runtime.program.settings, runtime.program)
        }
        assert found["max_body"].origin == "overlay"
        assert found["plugins.counting.step"].source == str(files.overlay)
    assert files.toml.read_bytes() == before
    assert content(files) == {"max_body": 2000, "plugins": {"counting": {"step": 10}}}
    async with files.running() as (runtime, _):
        assert runtime.program.settings.max_body == 2000


async def test_null_brings_the_settings_file_back(files: Files) -> None:
    """A key that is removed from the overlay has the value of the file, or its default."""
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE + "max_body = 1000")
    async with files.running() as (runtime, reloader):
        await reloader.change_settings({"max_body": 2000, "max_connections": 5}, None)
        await reloader.change_settings({"max_body": None, "max_connections": None}, None)
        settings = runtime.program.settings
        assert (settings.max_body, settings.max_connections) == (1000, 1000)
    assert content(files) == {}


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"max_body": 0, "max_bodi": 1}, ["max_bodi", "max_body"]),
    ({"plugins": {"counting": {"stepp": 1}}}, ["plugins.counting.stepp"]),
    ({"plugins": {"counting": {"step": "x"}}}, ["plugins.counting.step"]),
    ({"overlay": "elsewhere.toml"}, ["overlay"]),
    ({"active_plugins": ["counting", "coutning"]}, ["coutning"]),
    ({"allowed_hosts": [None]}, ["allowed_hosts[0]"]),
    ({"max_body": 1, "service": "x", "root_path": "/x"}, ["service", "root_path"]),
]


@pytest.mark.parametrize(("patch", "named"), REFUSED)
async def test_a_change_with_a_fault_changes_nothing(
    files: Files, patch: dict[str, Any], named: list[str]
) -> None:
    """All of its faults are told by key, the file is as it was, and so is the program."""
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE)
    files.environ["TRIVET_SERVICE"] = "shop"
    files.overrides["root_path"] = "/trivet"
    async with files.running() as (runtime, reloader):
        await reloader.change_settings({"max_connections": 5}, None)
        host, settings = runtime.hosts["counting"], runtime.program.settings
        written, version = files.overlay.read_bytes(), reloader.version()
        with pytest.raises(ConfigurationError) as refused:
            await reloader.change_settings(patch, None)
        for key in named:
            assert key in str(refused.value)
        assert runtime.hosts["counting"] is host
        assert runtime.program.settings is settings
        assert reloader.version() == version
    assert files.overlay.read_bytes() == written
    assert [each.name for each in files.path.glob("*.new")] == []


async def test_what_a_later_source_sets_says_which(files: Files) -> None:
    """The variable is named, and so is the command line; a table and an array are looked into."""
    token = {"name": "a", "scopes": ["read"], "secret": "a-secret-of-the-file"}
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE)
    files.environ |= {
        "TRIVET_PLUGINS__COUNTING__STEP": "2",
        "TRIVET_TOKENS__A__NAME": "a",
        "TRIVET_TOKENS__A__SECRET": "a-secret-of-a-variable",
        "TRIVET_TOKENS__A__SCOPES": "read",
    }
    files.overrides["service"] = "shop"
    async with files.running() as (_, reloader):
        for patch, said in (
            ({"plugins": {"counting": {"step": 3}}}, "TRIVET_PLUGINS__COUNTING__STEP"),
            ({"service": "kitchen"}, "command line"),
            ({"tokens": [token]}, "TRIVET_TOKENS__A__SECRET"),
        ):
            with pytest.raises(ConfigurationError, match=said):
                await reloader.change_settings(patch, None)
        await reloader.change_settings({"plugins": {"counting": {"step": None}}}, None)
    assert not content(files)


async def test_a_plugin_that_does_not_start_refuses_the_change(files: Files) -> None:
    """Nothing is written, and the old instance runs on."""
    files.plugin(
        "picky",
        """
        class Picky(BackgroundPlugin):
            fails: bool = False

            async def initialize(self) -> None:
                if self.fails:
                    raise OSError("no")
        """,
    )
    files.settings('active_plugins = ["picky"]')
    async with files.running() as (runtime, reloader):
        host = runtime.hosts["picky"]
        with pytest.raises(ReloadRefusedError):
            await reloader.change_settings({"plugins": {"picky": {"fails": True}}}, None)
        assert runtime.hosts["picky"] is host
    assert sorted(each.name for each in files.path.iterdir()) == ["plugins", "trivet.toml"]


async def test_a_place_that_cannot_be_written_to_refuses_the_change(files: Files) -> None:
    """The reason is told before anything is applied."""
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE + 'overlay = "none/overlay.toml"')
    async with files.running() as (runtime, reloader):
        host = runtime.hosts["counting"]
        with pytest.raises(ConfigurationError) as refused:
            await reloader.change_settings({"plugins": {"counting": {"step": 3}}}, None)
        assert str(files.path / "none/overlay.toml") in str(refused.value)
        assert runtime.hosts["counting"] is host


async def test_a_place_that_is_lost_at_the_last_moment_refuses_the_change(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new instances are undone where the file cannot take its place any more."""

    def fail(draft: Draft) -> None:
        raise ConfigurationError("the place is lost")

    monkeypatch.setattr(Draft, "take_place", fail)
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE)
    async with files.running() as (runtime, reloader):
        number: Any = runtime.events["number"]
        host = runtime.hosts["counting"]
        with pytest.raises(ConfigurationError, match="lost"):
            await reloader.change_settings({"plugins": {"counting": {"step": 3}}}, None)
        assert runtime.hosts["counting"] is host
        await runtime.publish(number(2), wait=True)
        plugin: Any = host.plugin
        assert plugin.seen == [2]
    assert sorted(each.name for each in files.path.iterdir()) == ["plugins", "trivet.toml"]


async def test_a_key_that_needs_a_restart_is_written_and_told(files: Files) -> None:
    """The present value holds, the answer says why, and the next start has the new one."""
    files.settings("")
    async with files.running() as (runtime, reloader):
        ((change,), _) = await reloader.change_settings({"service": "shop"}, None)
        assert (change.what, change.result) == ("service", "needs a restart")
        assert runtime.program.settings.service == "trivet"
        assert runtime.program.settings.waiting == ("service",)
    async with files.running() as (runtime, _):
        assert runtime.program.settings.service == "shop"
        assert runtime.program.settings.waiting == ()


async def test_a_version_that_was_seen_is_that_of_one_change(files: Files) -> None:
    """One of two changes with the same version, at the same time, is refused; and so is one after
    a change by hand, or after a reload."""
    files.settings("")
    async with files.running() as (runtime, reloader):
        version, outcomes = reloader.version(), list[str]()

        async def change(value: int) -> None:
            try:
                await reloader.change_settings({"max_body": value}, version)
                outcomes.append("changed")
            except StaleSettingsError:
                outcomes.append("stale")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, 1)
            nursery.start_soon(change, 2)
        assert sorted(outcomes) == ["changed", "stale"]
        assert runtime.program.settings.max_body == content(files)["max_body"]
        version = reloader.version()
        files.overlay.write_text("max_body = 7")
        with pytest.raises(StaleSettingsError):
            await reloader.change_settings({"max_body": 3}, version)
        version = reloader.version()
        await reloader.reload()
        with pytest.raises(StaleSettingsError):
            await reloader.change_settings({"max_body": 3}, version)
        assert runtime.program.settings.max_body == 7


async def test_changes_and_reloads_at_once_follow_one_another(files: Files) -> None:
    """Each change of another key is kept, whatever reloads come between."""
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE)
    async with files.running() as (runtime, reloader):
        async with trio.open_nursery() as nursery:
            for number in range(1, 6):
                patch = {"event_rates": {"number": 10.0 * number}, "log": {"level": "error"}}
                nursery.start_soon(reloader.change_settings, patch, None)
                nursery.start_soon(reloader.reload)
                patch = {"plugins": {"counting": {"step": number}}}
                nursery.start_soon(reloader.change_settings, patch, None)
        settings = runtime.program.settings
        plugin: Any = runtime.hosts["counting"].plugin
    assert content(files) == {
        "event_rates": settings.event_rates,
        "log": {"level": "error"},
        "plugins": {"counting": {"step": plugin.step}},
    }


async def test_a_change_leaves_changed_code_for_a_reload(files: Files) -> None:
    """A file that is half written in the plugins' directory does not matter to a setting."""
    files.plugin("counting", COUNTING)
    files.settings(ACTIVE)
    async with files.running() as (runtime, reloader):
        files.plugin("counting", COUNTING + "\ndef broken(")
        await reloader.change_settings({"plugins": {"counting": {"step": 3}}}, None)
        plugin: Any = runtime.hosts["counting"].plugin
        assert plugin.step == 3
        with pytest.raises(ConfigurationError):
            await reloader.reload()
        files.plugin("counting", COUNTING + "\nADDED = 1")
        changes = await reloader.reload()
        assert [each.result for each in changes] == ["replaced"]


async def test_a_secret_by_one_form_takes_the_place_of_another(files: Files) -> None:
    """The overlay's `{ file = … }` counts over a secret of the settings' file."""
    files.plugin(
        "client",
        """
        class Client(BackgroundPlugin):
            token: Secret
        """,
    )
    files.settings('active_plugins = ["client"]\n[plugins.client]\ntoken = "hunter2-hunter2"')
    (files.path / "token").write_text("open-sesame")
    async with files.running() as (runtime, reloader):
        await reloader.change_settings({"plugins": {"client": {"token": {"file": "token"}}}}, None)
        plugin: Any = runtime.hosts["client"].plugin
        assert plugin.token.reveal() == "open-sesame"
        assert "open-sesame" not in files.overlay.read_text()
        await reloader.change_settings({"plugins": {"client": {"token": "plain-password"}}}, None)
        plugin = runtime.hosts["client"].plugin
        assert plugin.token.reveal() == "plain-password"
    assert files.overlay.stat().st_mode & 0o777 == 0o600
