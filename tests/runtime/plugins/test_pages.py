"""`@page`: the declaration of a plugin's own pages."""

from __future__ import annotations

from typing import Any

import pytest

from trivet import BackgroundPlugin, DefinitionError, page
from trivet._plugins._pages import PluginPage, pages_of


class Teapot(BackgroundPlugin):
    @page("Teas")
    async def teas(self) -> str:
        return "green"

    @page("Cups")
    async def cups(self) -> str:
        return "four"


def test_pages_are_those_of_the_class_and_of_its_bases() -> None:
    """A class has the pages that it declares and inherits, in order; one that it overrides without
    declaring it again is gone."""

    class Kettle(Teapot):
        async def teas(self) -> str:
            return "black"

        @page("Steam")
        async def steam(self) -> str:
            return "much"

    assert [*pages_of(Teapot)] == [PluginPage("teas", "Teas"), PluginPage("cups", "Cups")]
    assert [*pages_of(Kettle)] == [PluginPage("cups", "Cups"), PluginPage("steam", "Steam")]


@pytest.mark.parametrize("title", ["", "  ", "x" * 61, len])
def test_a_title_that_is_none(title: Any) -> None:
    """A page has a title, which is a short text; a decorator without one is told."""
    with pytest.raises(DefinitionError, match="Title"):
        page(title)


def test_a_method_that_cannot_be_a_page() -> None:
    """A page is an async method without arguments; the error names another one, and the right
    form."""

    def plain(self: object) -> str:
        return ""

    async def asking(self: object, cup: int) -> str:
        return ""

    wrong: Any = plain
    with pytest.raises(DefinitionError, match="plain"):
        page("Tea")(wrong)
    wrong = asking
    with pytest.raises(DefinitionError, match=r"async def asking\(self\)"):
        page("Tea")(wrong)
