"""The order of starts, from tiers and needs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from trivet import (
    BackgroundPlugin,
    Settings,
    SourcePlugin,
)
from trivet._program._loader import load

from .classes import Audit, plugin
from .directories import refusal


def test_levels() -> None:
    """A plugin is in a later level than its needs; within a level the order of activation holds."""
    disk = plugin("disk")
    classes = [
        plugin("source", "export", base=SourcePlugin),
        plugin("export", disk, "format", base=Audit),
        plugin("buffer", disk),
        plugin("other", base=Audit),
        plugin("format", base=Audit),
        plugin("alone"),
        disk,
    ]
    assert load(Settings(), plugins=classes).tiers == (
        (("alone", "disk"), ("buffer",)),
        (("other", "format"), ("export",)),
        (("source",),),
    )


def test_circle() -> None:
    """The error about a circle follows the needs around it."""
    said = refusal([plugin("a", "b"), plugin("b", "c"), plugin("c", "a")])
    circle = said.removeprefix("plugins need each other in a circle: ").split(" → ")
    assert circle[0] == circle[-1]
    assert set(pairwise(circle)) == {("a", "b"), ("b", "c"), ("c", "a")}


def test_circle_of_one() -> None:
    """A plugin that needs itself is refused as a circle."""
    assert refusal([plugin("a", "a")]).endswith(": a → a")


@pytest.mark.parametrize(("outer", "inner"), [(0, 1), (1, 2), (0, 2)])
def test_needs_point_outwards(outer: int, inner: int) -> None:
    """A plugin of an outer tier starts before the inner ones, so it cannot need one."""
    bases: list[Any] = [BackgroundPlugin, Audit, SourcePlugin]
    said = refusal([plugin("a", "b", base=bases[outer]), plugin("b", base=bases[inner])])
    assert said.startswith("'a' (")
    assert "which starts later and stops earlier" in said
    load(
        Settings(),
        plugins=[plugin("a", base=bases[outer]), plugin("b", "a", base=bases[inner])],
    )
