from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .commands import as_json, trivet, write

TEAPOT = """
    from trivet import BackgroundPlugin, Secret, route

    class Teapot(BackgroundPlugin):
        cups: int = 3
        key: Secret = Secret("sesame-open")

        @route("/pour", methods=["POST"])
        async def pour(self):
            return {}
"""
"""A plugin with a setting, a secret and a route."""


def test_a_program_without_a_fault_has_code_0(here: Path) -> None:
    """A program without a fault is named, part by part, and the exit code is 0."""
    write(here / "plugins/teapot.py", TEAPOT)
    result = trivet("check", "teapot")
    assert (result.exit_code, result.stdout) == (0, "no fault: teapot\n")
    found = as_json("check", "teapot", "--json")
    assert found["faults"] == []
    assert found["plugins"] == ["teapot"]
    assert found["routes"] == [
        {"plugin": "teapot", "path": "/pour", "methods": ["POST"], "scope": "read"}
    ]
    assert "monitoring_event" in found["events"]


def test_every_fault_is_told_at_once(here: Path) -> None:
    """Faults of settings, variables, files, classes and tables are told together, with code 2."""
    write(here / "plugins/teapot.py", TEAPOT)
    write(here / "plugins/broken.py", "import there_is_no_such_module")
    write(
        here / "plugins/unfinished.py",
        "from trivet import EventPlugin\nclass Unfinished(EventPlugin): ...",
    )
    write(
        here / "trivet.toml",
        """
        active_plugins = ["teapot", "broken", "unfinished", "gone"]
        max_body = -1
        [shutdown]
        drain = "long"
        [plugins.teapot]
        cups = "many"
        """,
    )
    result = trivet("check", TRIVET_BIND="80")
    assert result.exit_code == 2
    for place in ("max_body", "shutdown.drain", "TRIVET_BIND", "plugins.teapot.cups", "'gone'"):
        assert place in result.stderr
    assert "there_is_no_such_module" in result.stderr
    assert "handle_event" in result.stderr
    assert result.stdout == "7 faults\n"
    assert len(as_json("check", "--json", TRIVET_BIND="80")["faults"]) == 7


def test_a_fault_causes_no_other_fault(here: Path) -> None:
    """A plugin that needs, or an event list that names, what a broken file defines is no fault."""
    write(here / "plugins/broken.py", "import there_is_no_such_module")
    write(
        here / "plugins/waiter.py",
        "from trivet import BackgroundPlugin\nclass Waiter(BackgroundPlugin):\n needs = ('chef',)",
    )
    write(
        here / "trivet.toml",
        'active_plugins = ["broken", "waiter"]\nopen_events = ["dish"]\n[plugins.chef]\nhat = 1',
    )
    assert len(as_json("check", "--json")["faults"]) == 1


def test_unreadable_settings_are_one_fault(here: Path) -> None:
    """A file that is no TOML is one fault: nothing is said about plugins that it may name."""
    write(here / "trivet.toml", "active_plugins = [")
    assert len(as_json("check", "--json")["faults"]) == 1


def test_no_secret_is_told(here: Path) -> None:
    """A fault about a secret's value does not contain it."""
    write(here / "plugins/teapot.py", TEAPOT)
    write(here / "trivet.toml", '[plugins.teapot]\nkey = "hunter2222"\ncups = "hunter2222"')
    result = trivet("check", "teapot")
    assert result.exit_code == 2
    assert "hunter2222" not in result.output


def test_prints_of_plugins_do_not_spoil_the_document(here: Path) -> None:
    """The lines that plugins print go to standard error: standard output has the document alone."""
    write(
        here / "plugins/teapot.py",
        """
        from trivet import BackgroundPlugin
        print("at import")
        class Teapot(BackgroundPlugin):
            async def initialize(self):
                print("at start")
        """,
    )
    result = trivet("check", "teapot", "--connect", "--json")
    assert result.stdout.startswith("{")
    assert "at import" in result.stderr
    assert "at start" in result.stderr


def test_connect_has_every_plugin_tried(here: Path) -> None:
    """`--connect` tells every plugin that does not start, with code 2; without it, none is."""
    for name in ("first", "second"):
        write(
            here / f"plugins/{name}.py",
            f"""
            from trivet import BackgroundPlugin
            class {name.title()}(BackgroundPlugin):
                async def initialize(self):
                    raise OSError("{name} is away")
            """,
        )
    assert trivet("check", "first", "second").exit_code == 0
    result = trivet("check", "first", "second", "--connect")
    assert (result.exit_code, result.stdout) == (2, "2 faults\n")
    assert "first is away" in result.stderr
    assert "second is away" in result.stderr


def test_connect_takes_neither_address_nor_store(here: Path) -> None:
    """`--connect` works beside the running program, and leaves no store behind."""
    write(
        here / "plugins/teapot.py",
        """
        from trivet import DeliverySettings, Event, EventPlugin
        class Tea(Event): ...
        class Teapot(EventPlugin[Tea]):
            delivery = DeliverySettings(durable=True)
            async def handle_event(self, event): ...
        """,
    )
    with socket.create_server(("127.0.0.1", 0)) as running:
        address = f"127.0.0.1:{running.getsockname()[1]}"
        assert trivet("check", "teapot", "--connect", "--bind", address).exit_code == 0
    assert sorted(path.name for path in here.iterdir()) == ["plugins"]


@pytest.mark.parametrize("command", ["check", "settings", "serve"])
def test_commands_take_the_same_arguments(command: str) -> None:
    """`check` and `settings` take the arguments of `serve`, for the same program."""
    said = trivet(command, "--help").stdout
    assert "[PLUGIN]..." in said
    for option in ("--config", "--plugins", "--bind"):
        assert option in said


def test_open_doors_are_a_fault(here: Path) -> None:
    """An address that other machines reach is refused without tokens, as `serve` refuses it."""
    write(here / "plugins/teapot.py", TEAPOT)
    assert trivet("check", "teapot", "--bind", "0.0.0.0:8080").exit_code == 2
    assert trivet("check", "teapot", "--bind", "127.0.0.1:8080").exit_code == 0


def test_without_a_plugin(here: Path) -> None:
    """`--without` leaves an active plugin out, as often as it is given; its file may be broken."""
    write(here / "plugins/teapot.py", TEAPOT)
    write(here / "plugins/broken.py", "import there_is_no_such_module")
    write(here / "plugins/gone.py", "import there_is_no_such_module")
    names = ("teapot", "broken", "gone")
    assert trivet("check", *names).exit_code == 2
    result = trivet("check", *names, "--without", "broken", "--without", "gone")
    assert (result.exit_code, result.stdout) == (0, "no fault: teapot\n")
    result = trivet("check", "teapot", "--without", "teapots")
    assert result.exit_code == 2
    assert "did you mean 'teapot'" in result.stderr
