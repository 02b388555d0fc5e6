from __future__ import annotations

from pathlib import Path

from trivet import Settings
from trivet._program._collector import Faults
from trivet._program._reading import read_settings


def test_a_key_with_a_fault_keeps_its_default(tmp_path: Path) -> None:
    """The reading goes on after a fault, and names the keys that it has refused."""
    file = tmp_path / "trivet.toml"
    file.write_text('service = "kitchen"\nmax_body = -1\nadmin_token = "x"\n[log]\nlevel = "loud"')
    faults = Faults()
    reading = read_settings(file, {"TRIVET_BIND": "80", "TRIVET_STORE": "x"}, {}, faults)
    assert reading.settings.service == "kitchen"
    assert reading.settings.max_body == Settings().max_body
    assert reading.refused == {"max_body", "log", "bind", "store"}
    assert len(faults.lines) == 5


def test_a_file_that_cannot_be_read_refuses_every_key(tmp_path: Path) -> None:
    """Nothing is known of any key where the file is no TOML; the environment is still checked."""
    file = tmp_path / "trivet.toml"
    file.write_text("[")
    faults = Faults()
    reading = read_settings(file, {"TRIVET_BIND": "80"}, {}, faults)
    assert "active_plugins" in reading.refused
    assert len(faults.lines) == 2
