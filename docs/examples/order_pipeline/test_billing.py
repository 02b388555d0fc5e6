"""Orders are billed in order, and one above the limit waits for an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trivet import Fate, PermanentError, Runtime
from trivet.testing import OpenPlugins, open_plugins

PLUGINS = Path(__file__).parent / "plugins"


def order(runtime: Runtime, **changes: object) -> Any:
    """An order, of the program's own class."""
    return runtime.events["order_placed"].example(**changes)


async def test_orders_are_billed_in_order(open_service: OpenPlugins, tmp_path: Path) -> None:
    """Each order of a customer is one line, in the order of their publishing."""
    settings = {"billing": {"file": str(tmp_path / "bills")}}
    async with open_service("billing", directory=PLUGINS, settings=settings) as runtime:
        for number in range(5):
            placed = order(runtime, order_id=f"o-{number}", customer="ann", total=1.0)
            await runtime.publish(placed, wait=number == 4)
    lines = (tmp_path / "bills").read_text().splitlines()
    assert [line.split('"')[3] for line in lines] == [f"o-{number}" for number in range(5)]


async def test_an_order_above_the_limit_becomes_a_dead_letter(tmp_path: Path) -> None:
    """An order that no attempt can bill is not tried again, and the others are billed."""
    settings = {"billing": {"file": str(tmp_path / "bills"), "limit": 50.0}}
    async with open_plugins("billing", directory=PLUGINS, settings=settings) as runtime:
        dear = await runtime.publish(order(runtime, total=50.01), wait=True)
        cheap = await runtime.publish(order(runtime, total=50.0), wait=True)
    assert (dear.worst, cheap.worst) == (Fate.DEAD_LETTERED, Fate.HANDLED)
    with pytest.raises(PermanentError, match="above 50"):
        raise dear.errors["billing"]
