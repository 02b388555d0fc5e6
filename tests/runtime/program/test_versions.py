"""The versions of the plugins' code."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from trivet import BackgroundPlugin
from trivet._program._versions import code_versions, distribution_of


class Pot(BackgroundPlugin):
    pass


def test_a_version_names_the_file_and_its_hash() -> None:
    """The version of a class has the file of its module, the file's SHA-256, and the moment."""
    before = datetime.now(UTC)
    code = code_versions([Pot])[Pot]
    assert code.file == __file__
    assert code.sha256 == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert before <= code.loaded_at <= datetime.now(UTC)


def test_code_without_a_file() -> None:
    """Code whose file is none, or is gone, has no hash."""
    made: dict[str, type] = {}
    for name, file in (("of_no_file", None), ("of_a_lost_file", "/nowhere/lost.py")):
        module = ModuleType(name)
        if file is not None:
            module.__file__ = file
        sys.modules[name] = module
        made[name] = type("Made", (), {"__module__": name})
    try:
        found = {code.module: code for code in code_versions(made.values()).values()}
    finally:
        for name in made:
            del sys.modules[name]
    assert (found["of_no_file"].file, found["of_no_file"].sha256) == (None, None)
    assert found["of_a_lost_file"].file == "/nowhere/lost.py"
    assert found["of_a_lost_file"].sha256 is None


def test_the_distribution() -> None:
    """Installed code has a distribution with a version; a file of the plugins' directory has
    none."""
    assert str(distribution_of("trio.testing")).startswith("trio ")
    assert distribution_of("trivet_plugins.pot") is None
    assert distribution_of("no_such_module") is None
