"""Boils water, and cannot brew coffee.

Shows a background plugin: work of its own, and a route that is a class in the plugin's body.
"""

from __future__ import annotations

import trio
from quart import Response

from trivet import BackgroundPlugin, Handler, route


class Teapot(BackgroundPlugin):
    """Warms up by one degree a second.

    The instance outlives a restart, and the temperature with it: the water does not get cold.
    """

    _temperature: int = 0

    @route("/teapot")
    class Tea(Handler["Teapot"]):
        """What RFC 2324 says of teapots."""

        async def get(self) -> Response:
            """Answer 418."""
            return Response("I am teapot", status=418, content_type="text/plain; charset=utf-8")

    async def run(self) -> None:
        """Boil the water. The route is there before, meanwhile and afterwards."""
        while self._temperature < 99:
            await self._warm_up()
            self.log.info("I boil water, temperature: %d", self._temperature)
        await self._warm_up()
        self.log.info("boiling water is ready, would you care for a cup of tea?")

    async def _warm_up(self) -> None:
        await trio.sleep(1)
        self._temperature += 1
