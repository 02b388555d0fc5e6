"""Boils water, and cannot brew coffee.

Shows a background plugin: its own work, and a route that is a class in the plugin's body.
"""

from __future__ import annotations

import trio
from quart import Response

from trivet import BackgroundPlugin, Handler, route


class Teapot(BackgroundPlugin):
    """Warms up by one degree a second.

    The instance survives a restart, and so does the temperature: the water does not get cold.
    """

    _temperature: int = 0

    @route("/teapot")
    class Tea(Handler["Teapot"]):
        """The response that RFC 2324 gives a teapot."""

        async def get(self) -> Response:
            """Answer 418."""
            return Response("I am teapot", status=418, content_type="text/plain; charset=utf-8")

    async def run(self) -> None:
        """Boil the water. The route answers before, during and after this."""
        while self._temperature < 99:
            await self._warm_up()
            self.log.info("I boil water, temperature: %d", self._temperature)
        await self._warm_up()
        self.log.info("boiling water is ready, would you care for a cup of tea?")

    async def _warm_up(self) -> None:
        await trio.sleep(1)
        self._temperature += 1
