from __future__ import annotations

from pathlib import Path

from .commands import as_json, trivet, write

PLUGIN = """
    from trivet import Event, EventPlugin
    class Tea(Event):
        cups: int
    class Teapot(EventPlugin[Tea]):
        size: int = 3
        async def handle_event(self, event): ...
"""


def test_the_schema_has_the_active_plugins(here: Path) -> None:
    """The schema of the settings has those of the program and of each active plugin."""
    write(here / "plugins/teapot.py", PLUGIN)
    write(here / "trivet.toml", 'active_plugins = ["teapot"]')
    properties = as_json("schema")["properties"]
    assert properties["service"]["type"] == "string"
    assert [each["type"] for each in properties["bind"]["anyOf"]] == ["string", "array"]
    teapot = properties["plugins"]["properties"]["teapot"]["properties"]
    assert teapot["size"] == {"type": "integer", "default": 3}
    assert {"use", "supervision", "delivery"} < set(teapot)


def test_an_event_has_a_schema(here: Path) -> None:
    """`trivet schema EVENT` prints the schema of one event, `--events` that of each."""
    write(here / "plugins/teapot.py", PLUGIN)
    write(here / "trivet.toml", 'active_plugins = ["teapot"]')
    tea = as_json("schema", "tea")
    assert tea["$defs"]["Tea"]["required"] == ["cups"]
    assert as_json("schema", "--events")["tea"] == tea


def test_an_unknown_event_is_refused(here: Path) -> None:
    """An event that the program does not have ends with code 2, and the nearest name."""
    result = trivet("schema", "monitoring_evnt")
    assert result.exit_code == 2
    assert "monitoring_event" in result.stderr
    assert trivet("schema", "monitoring_event", "--events").exit_code == 2
