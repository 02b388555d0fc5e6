from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import pytest

from trivet._cli import _installation
from trivet._program._collector import Faults

from .commands import trivet, write

DURABLE = """
    from trivet import DeliverySettings, Event, EventPlugin
    class Tea(Event): ...
    class Teapot(EventPlugin[Tea]):
        delivery = DeliverySettings(durable=True)
        async def handle_event(self, event): ...
"""


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("click>=8.2", None),
        ("click<999,>=8.2", None),
        ("click>=999", "Trivet needs click>=999"),
        ("click<2,>=1", "Trivet needs click<2,>=1"),
        ("there-is-no-such-library>=1", "there-is-no-such-library is not installed"),
        ("there-is-no-such-library>=1; extra == 'tea'", None),
        ("click[tea]<1; extra == 'tea'", f"click {version('click')} is installed"),
    ],
)
def test_requirements(monkeypatch: pytest.MonkeyPatch, requirement: str, said: str | None) -> None:
    """A library is a fault if it is missing, unless an extra has it, or outside its bounds."""

    def requires(_: str) -> list[str]:
        return [requirement]

    monkeypatch.setattr(_installation, "requires", requires)
    faults = Faults()
    _installation.check_versions(faults)
    assert len(faults.lines) == (said is not None)
    assert (said or "") in "".join(faults.lines)


def test_this_installation_has_no_fault() -> None:
    """Every requirement in the distribution's own metadata can be read."""
    faults = Faults()
    _installation.check_versions(faults)
    assert faults.lines == []


def test_a_store_without_a_directory_is_a_fault(here: Path) -> None:
    """A durable plugin's store needs a directory that exists and can be written to."""
    write(here / "plugins/teapot.py", DURABLE)
    result = trivet("check", "teapot", TRIVET_STORE__PATH="gone/store.db")
    assert result.exit_code == 2
    assert "there is no directory gone" in result.stderr
    assert trivet("check", "teapot", TRIVET_STORE__PATH="store.db").exit_code == 0


@pytest.mark.parametrize(("refused", "said"), [("", "cannot be written to"), ("store.db", "read")])
def test_a_store_that_this_user_cannot_write_is_a_fault(
    here: Path, monkeypatch: pytest.MonkeyPatch, refused: str, said: str
) -> None:
    """A directory or a file that the system refuses to this user is a fault."""
    write(here / "plugins/teapot.py", DURABLE)
    (here / "store.db").touch()

    def access(path: Path, _: int) -> bool:
        return path != Path(refused)

    monkeypatch.setattr(os, "access", access)
    result = trivet("check", "teapot", TRIVET_STORE__PATH="store.db")
    assert result.exit_code == 2
    assert said in result.stderr
