"""The map of the house in `trivet/__init__.py`, and the structure that it draws."""

from __future__ import annotations

import re

import trivet

from .structure import arrows_of_modules, arrows_of_rooms, circle, modules


def names_on_the_map() -> list[str]:
    """The modules that the map names, as often as it names them, in the words of the map."""
    assert trivet.__doc__
    drawing = trivet.__doc__.split("\n\n")[2]
    return re.findall(r"(?<![\w`./])(?:_[a-z_]+|testing|asgi|aio)(?![\w`.])", drawing)


def test_every_module_is_on_one_line_of_the_map() -> None:
    """The map names each module once, and none that is not there."""
    there = sorted(name.rpartition(".")[2] for name in modules())
    assert sorted(names_on_the_map()) == there


def test_no_import_goes_in_a_circle() -> None:
    """Neither modules nor rooms import from one another in a circle."""
    modules_ = arrows_of_modules()
    assert circle(modules_) == []
    assert circle(arrows_of_rooms(modules_)) == []
