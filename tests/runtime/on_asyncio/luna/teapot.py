"""LUNA's example of a background plugin. What differs is names; the bodies are kept.

Its `start`, which starts a task and returns, is `run` here, and does the same.
"""

from __future__ import annotations

import asyncio
from asyncio import Task

from quart import Response

from trivet import App, AsyncioPlugin, BackgroundPlugin, Handler, route


class BackgroundPluginExample(AsyncioPlugin, BackgroundPlugin):
    """Create background task and add a route."""

    @route("/teapot")
    class HandlerExample(Handler["BackgroundPluginExample"]):
        """Handler example."""

        async def get(self) -> Response:
            return Response("I am teapot", content_type="text/plain", status=418)

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self.task: Task[None] | None = None
        self.temperature = 0

    async def initialize(self) -> None:
        pass

    async def close(self) -> None:
        if self.task:
            self.task.cancel()

    async def useful_job(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.temperature = min(100, self.temperature + 1)
            if self.temperature < 100:
                self.log.info(f"I boil water, temperature: {self.temperature}")
            else:
                self.log.info("boiling water is ready, would you care for a cup of tea?")

    async def run(self) -> None:
        self.task = asyncio.create_task(self.useful_job())
