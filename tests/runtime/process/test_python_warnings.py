"""Python's own warnings in the log."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from structlog.testing import capture_logs

from trivet._faults._advice import FORGOTTEN
from trivet._process._python_warnings import warnings_in_the_log

FORGETFUL = """
import warnings

async def publish():
    pass

def handle():
    publish()

def deprecated():
    warnings.warn("old", DeprecationWarning)
"""


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[ModuleType]:
    """A plugin's module."""
    file = tmp_path / "billing.py"
    file.write_text(FORGETFUL, "utf-8")
    spec = spec_from_file_location("shop_of_warnings.billing", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def line_after(call: str, module: ModuleType, homes: dict[str, str]) -> dict[str, Any]:
    """The line of the log after a call of one of the module's functions."""
    with warnings.catch_warnings(), capture_logs() as logs:
        warnings.simplefilter("always")
        with warnings_in_the_log(homes):
            getattr(module, call)()
    (line,) = logs
    return dict(line)


def test_a_forgotten_await_names_its_plugin(billing: ModuleType) -> None:
    """A coroutine that nobody awaits is logged with the plugin, the line and what to write."""
    line = line_after("handle", billing, {"bills": billing.__name__, "other": "json"})
    assert (line["event"], line["log_level"]) == ("Python warns", "warning")
    assert (line["plugin"], line["hint"]) == ("bills", FORGOTTEN)
    assert line["at"] == f"{billing.__file__}:8"
    assert line["warning"].startswith("RuntimeWarning: coroutine 'publish' ")


def test_another_warning_has_no_hint(billing: ModuleType) -> None:
    """Any warning of a plugin's line is logged with the plugin."""
    line = line_after("deprecated", billing, {"bills": billing.__name__})
    assert (line["plugin"], line["warning"]) == ("bills", "DeprecationWarning: old")
    assert "hint" not in line


def test_plugins_of_one_package_are_all_named(billing: ModuleType) -> None:
    """A line of a package that several plugins share may be any of theirs."""
    homes = {"bills": "shop_of_warnings", "refunds": "shop_of_warnings"}
    assert line_after("handle", billing, homes)["plugin"] == "bills or refunds"


def test_a_library_names_no_plugin(billing: ModuleType) -> None:
    """A warning of nobody's line is logged without a plugin."""
    assert "plugin" not in line_after("handle", billing, {"bills": "elsewhere"})


def test_the_hook_ends_with_the_block() -> None:
    """After the block warnings are shown as before."""
    before = warnings.showwarning
    with warnings_in_the_log({}):
        assert warnings.showwarning is not before
    assert warnings.showwarning is before
