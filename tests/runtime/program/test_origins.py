from __future__ import annotations

import math
from pathlib import Path

import attrs
import pytest

from trivet import BackgroundPlugin, Secret, Settings
from trivet._program._collector import Faults
from trivet._program._loader import load
from trivet._program._origins import as_json, effective_settings, plugin_settings
from trivet._program._reading import read_settings


class Pot(BackgroundPlugin):
    lid: bool = True
    hidden: str = attrs.field(default="word", repr=False)
    of_self: int = attrs.field(default=attrs.Factory(lambda self: 3, takes_self=True))


def test_a_variable_is_the_origin() -> None:
    """A setting of a table that a variable has made comes from the variable; defaults are shown."""
    faults = Faults()
    reading = read_settings(None, {"TRIVET_PLUGINS__POT__LID": "no"}, {}, faults)
    assert not faults
    program = load(reading.settings, plugins=[Pot])
    found = {each.key: each for each in effective_settings(reading.settings, program)}
    lid = found["plugins.pot.lid"]
    assert (lid.value, lid.origin, lid.source) == (False, "environment", "TRIVET_PLUGINS__POT__LID")
    assert found["plugins.pot.hidden"].value == "***"
    assert found["plugins.pot.of_self"].value is None


def test_the_settings_of_a_plugin_that_runs(tmp_path: Path) -> None:
    """A setting of one plugin comes from the variable, the file, the class, or the code that runs
    the program."""
    file, faults = tmp_path / "trivet.toml", Faults()
    file.write_text('[plugins.pot]\nhidden = "sesame"\n[plugins.pot.supervision]\ncritical = true')
    environ = {"TRIVET_PLUGINS__POT__LID": "no"}
    settings = read_settings(file, environ, {}, faults).settings
    assert not faults
    (checked,) = load(settings, plugins=[Pot]).plugins
    found = {
        each.key.removeprefix("plugins.pot."): each for each in plugin_settings(settings, checked)
    }
    facts = {key: (each.value, each.origin, each.source) for key, each in found.items()}
    assert facts["lid"] == (False, "environment", "TRIVET_PLUGINS__POT__LID")
    assert facts["hidden"] == ("***", "file", str(file))
    assert facts["supervision.critical"] == (True, "file", str(file))
    assert facts["of_self"] == (None, "default", None)
    embedded = Settings(plugins={"pot": {"lid": False}})
    (checked,) = load(embedded, plugins=[Pot]).plugins
    lid = next(plugin_settings(embedded, checked))
    assert (lid.value, lid.origin, lid.source) == (False, "program", None)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Secret("sesame"), "***"),
        ({"a": Secret("sesame")}, {"a": "***"}),
        (Path("a/b"), "a/b"),
        (math.inf, None),
        ({3}, [3]),
        (Pot, str(Pot)),
    ],
)
def test_values_are_jsons(value: object, shown: object) -> None:
    """A value is shown in JSON's types; a secret within it is masked."""
    assert as_json(value) == shown
