from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .commands import trivet, write

PLUGIN = """
    from trivet import BackgroundPlugin, Secret
    class Teapot(BackgroundPlugin):
        cups: int = 3
        key: Secret
        url: str = "http://tea:p4ssw0rd@pot/"
"""
FILE = """
    active_plugins = ["teapot"]
    service = "kitchen"
    [shutdown]
    drain = 1
    [[tokens]]
    name = "cook"
    scopes = ["admin"]
    secret = "0123456789-0123456789"
    [plugins.teapot]
    cups = 5
"""


def listed(*arguments: str, **environ: str) -> dict[str, dict[str, Any]]:
    """The settings by their keys."""
    lines = trivet("settings", "--json", *arguments, **environ).stdout.splitlines()
    return {setting["key"]: setting for setting in map(json.loads, lines)}


def test_each_setting_has_its_origin(here: Path) -> None:
    """A setting comes from the file, a variable, the command line, or is a default."""
    write(here / "plugins/teapot.py", PLUGIN)
    write(here / "trivet.toml", FILE)
    key = "TRIVET_PLUGINS__TEAPOT__KEY"
    found = listed("--bind", "127.0.0.1:1", TRIVET_SHUTDOWN__CLOSE="2", **{key: "open-sesame"})
    origins = {key: (each["value"], each["origin"], each["source"]) for key, each in found.items()}
    assert origins["service"] == ("kitchen", "file", "trivet.toml")
    assert origins["bind"] == ("127.0.0.1:1", "command line", None)
    assert origins["shutdown.drain"] == (1.0, "file", "trivet.toml")
    assert origins["shutdown.close"] == (2.0, "environment", "TRIVET_SHUTDOWN__CLOSE")
    assert origins["shutdown.requests"] == (5.0, "default", None)
    assert origins["store.path"] == ("trivet.sqlite3", "default", None)
    assert origins["plugins_directory"] == ("plugins", "default", None)
    assert origins["tokens[0].name"] == ("cook", "file", "trivet.toml")
    assert origins["plugins.teapot.cups"] == (5, "file", "trivet.toml")
    assert origins["plugins.teapot.key"] == ("***", "environment", key)
    assert origins["plugins.teapot.supervision.critical"] == (False, "default", None)


def test_the_overlay_is_an_origin(here: Path) -> None:
    """A setting that was changed while the program ran comes from the overlay, whose faults are
    named like those of the file."""
    write(here / "trivet.toml", "max_body = 1000\n[shutdown]\ndrain = 1")
    write(here / "trivet.overlay.toml", "[shutdown]\ndrain = 2")
    found = listed()
    assert (found["shutdown.drain"]["value"], found["shutdown.drain"]["origin"]) == (2.0, "overlay")
    assert found["shutdown.drain"]["source"] == "trivet.overlay.toml"
    assert found["max_body"]["origin"] == "file"
    write(here / "trivet.overlay.toml", "[shutdown]\ndrian = 2")
    result = trivet("check")
    assert result.exit_code == 2
    assert result.stderr.startswith("trivet: trivet.overlay.toml: shutdown.drian: unknown key")


def test_secrets_are_masked(here: Path) -> None:
    """Neither a secret nor the user in a URL is printed, in either form."""
    write(here / "plugins/teapot.py", PLUGIN)
    write(here / "trivet.toml", FILE)
    for arguments in ((), ("--json",)):
        printed = trivet("settings", *arguments, TRIVET_PLUGINS__TEAPOT__KEY="open-sesame").output
        for secret in ("open-sesame", "p4ssw0rd", "0123456789"):
            assert secret not in printed


def test_a_fault_ends_with_code_2(here: Path) -> None:
    """Settings with a fault are not printed: the fault is, with code 2."""
    result = trivet("settings", "gone")
    assert (result.exit_code, result.stdout) == (2, "")


def test_each_fault_says_whose_it_is(here: Path) -> None:
    """Each fault is a line that begins with the command's name, also of a command that stops."""
    write(here / "trivet.toml", 'max_body = 0\nbinds = "a"\n[tls]\nminimum_version = "1.1"\n')
    for command in ("settings", "schema", "serve"):
        lines = trivet(command).stderr.splitlines()
        assert len(lines) == 3
        assert all(line.startswith("trivet: trivet.toml: ") for line in lines), lines


def test_lines_are_for_people(here: Path) -> None:
    """Each line is `KEY = VALUE  # ORIGIN`, and — stands for no value."""
    write(here / "trivet.toml", 'service = "a\\u001bb"')
    lines = trivet("settings").stdout.splitlines()
    assert r'service = "a\u001bb"  # file trivet.toml' in lines
    assert "max_connections = 1000  # default" in lines
