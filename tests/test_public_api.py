"""The public interface as text; that the committed text is up to date, `test_documents` says."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from . import public_api
from .public_api import MODULES, interface


def test_every_connector_is_a_public_module() -> None:
    """The connectors' packages are among the public modules."""
    entries = entry_points(group="trivet.plugins")
    packages = {".".join(each.module.split(".")[:2]) for each in entries}
    ours = {package for package in packages if package.startswith("trivet_contrib.")}
    assert ours == {module for module in MODULES if module.startswith("trivet_contrib.")}


SOURCE = """
class Tea(Pot):
    cups: int = 1

    async def pour(self, cup: int, *, full: bool = True) -> str: ...

    def _hidden(self) -> None: ...


def brew(*leaves: str, **options: object) -> Tea: ...
"""


def test_the_lines_have_all_that_a_caller_relies_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class has its bases, a function its parameters with types and defaults, an attribute its
    type; private members have no line."""
    (tmp_path / "kitchen.py").write_text(SOURCE)
    monkeypatch.setattr(public_api, "MODULES", {"kitchen": tmp_path})
    assert interface().splitlines() == [
        "class kitchen.Tea(Pot)",
        "kitchen.Tea.cups: int",
        "async def kitchen.Tea.pour(self, cup: int, *, full: bool = True) -> str",
        "def kitchen.brew(*leaves: str, **options: object) -> Tea",
    ]
