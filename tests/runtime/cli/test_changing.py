"""`trivet set` and `unset`, which ask a running program."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from ..reload.programs import Files
from .commands import trivet
from .test_reload import opened


async def test_settings_are_changed_and_brought_back(here: Path) -> None:
    """Values are TOML, or text; each change is told, and what needs a restart."""
    files = Files(here)
    async with opened(files) as shell:
        said = await shell.done(
            "set",
            "max_body=2000",
            "plugins.counting.step=7",
            "service=tea shop",
            "--reason",
            "more",
        )
        assert said.splitlines() == [
            "service: needs a restart, since it is in the source of every event",
            "max_body: changed",
            "plugins.counting: replaced",
        ]
        assert tomllib.loads(files.overlay.read_text()) == {
            "max_body": 2000,
            "plugins": {"counting": {"step": 7}},
            "service": "tea shop",
        }
        document = json.loads(
            await shell.done("unset", "max_body", "plugins.counting.step", "--json")
        )
        assert [each["what"] for each in document["changes"]] == [
            "service",
            "max_body",
            "plugins.counting",
        ]
        assert tomllib.loads(files.overlay.read_text()) == {"service": "tea shop"}


async def test_the_addresses_need_a_stop_and_a_start(here: Path) -> None:
    """`trivet restart` keeps the sockets, and so it is not what the answer advises."""
    async with opened(Files(here)) as shell:
        said = await shell.done("set", "bind=127.0.0.1:9", "management_bind=127.0.0.1:10")
    assert said.splitlines() == [
        f"{key}: needs a restart, since the sockets are bound, and `trivet restart` keeps them: "
        "stop the program, and start it"
        for key in ("bind", "management_bind")
    ]


async def test_a_key_whose_value_holds_is_told(here: Path) -> None:
    """A key that came into the overlay, or left it, is told where its value is the same by that."""
    files = Files(here)
    async with opened(files) as shell:
        await shell.done("set", "bind=127.0.0.1:9")
        assert await shell.done("unset", "bind") == "bind: removed from the overlay\n"
        assert not files.overlay.exists() or tomllib.loads(files.overlay.read_text()) == {}
        value = str(shell.runtime.program.settings.max_body)
        for arguments, said in (
            (("set", f"max_body={value}"), "max_body: written to the overlay"),
            (("set", f"max_body={value}"), "nothing has changed"),
            (("unset", "max_body"), "max_body: removed from the overlay"),
            (("unset", "max_body"), "nothing has changed"),
        ):
            assert await shell.done(*arguments) == f"{said}\n"


async def test_a_key_that_is_no_setting_is_not_unset(here: Path) -> None:
    """The nearest key is told, in whichever table; a table's free keys, and tables, are none."""
    files = Files(here)
    async with opened(files) as shell:
        for key, nearest in (
            ("max_bodi", "max_body"),
            ("log.levl", "log.level"),
            ("plugins.counting.stepp", "plugins.counting.step"),
            ("plugins.countin.step", "plugins.counting"),
        ):
            result = await shell.run("unset", key)
            assert (result.exit_code, result.stdout) == (1, "")
            assert f"{key}: unknown key" in result.stderr
            assert f"did you mean {nearest!r}?" in result.stderr
        for key in ("log", "tokens", "plugins", "plugins.counting", "event_rates.paid"):
            assert await shell.done("unset", key) == "nothing has changed\n"


@pytest.mark.parametrize(
    ("others", "hint"),
    [
        ([], "did you mean 'plugins.counting.step'?"),
        (["left"], "did you mean 'plugins.counting.step' or 'plugins.left.step'?"),
        (["left", "right"], None),
    ],
)
async def test_a_plugins_setting_without_the_plugin(
    here: Path, others: list[str], hint: str | None
) -> None:
    """The whole key is told where one or two plugins have the setting, and none where more have it;
    by `set` and `unset` alike."""
    files = Files(here)
    async with opened(files) as shell:
        uses = [f"plugins.{name}.use=counting" for name in others]
        await shell.done("set", f"active_plugins={['counting', *others]}", *uses)
        for arguments in (("set", "step=7"), ("unset", "step")):
            result = await shell.run(*arguments)
            assert (result.exit_code, result.stdout) == (1, "")
            assert "step: unknown key" in result.stderr
            if hint is None:
                assert "plugins.counting.step" not in result.stderr
            else:
                assert hint in result.stderr


async def test_what_is_refused_says_why(here: Path) -> None:
    """Exit code 1, and a line for each fault."""
    async with opened(Files(here)) as shell:
        result = await shell.run("set", "max_bodi=1", "max_connections=0")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert any("'max_body'" in line for line in lines)
    assert any("max_connections" in line for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ("set", "max_body"),
        ("set", "a b=1"),
        ("set", "a=1", "a=2"),
        ("set", "a=1", "a.b=2"),
        ("set", "a=2026-01-01"),
        ("set", "a=[{b = 07:00:00}]"),
        ("unset", "a..b"),
        ("set",),
    ],
)
def test_wrong_usage_asks_no_program(here: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2, before anything is sent."""
    assert trivet(*arguments, TRIVET_URL="http://127.0.0.1:1").exit_code == 2
