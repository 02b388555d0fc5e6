"""The address `/`, which leads to the page where no plugin has it.

Owns this one view.
Never knows the page.
"""

from __future__ import annotations

from quart import Response, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from ..._access._tokens import Scope
from .._doors import Doors

ROOT, PAGE = "/", "/-/"


def add_root(app: QuartTrio, doors: Doors, scopes: dict[str, Scope | None]) -> None:
    """Lead from `/` to the page, unless a plugin has a route there, or the page another address.

    Args:
        app: the Quart application, which has the plugins' routes.
        doors: say whether management has addresses of its own.
        scopes: where the scope of the view goes.
    """
    if doors.is_split or any(rule.rule == ROOT for rule in app.url_map.iter_rules()):
        return

    @app.get(ROOT)
    async def root() -> ResponseReturnValue:
        """To the page of the administration."""
        return Response(b"", 307, {"Location": f"{request.root_path}{PAGE}"})

    scopes["root"] = None
