"""Fails a second after its start, and the program cannot go on without it."""

from __future__ import annotations

import trio

from trivet import BackgroundPlugin, SupervisionSettings


class Vital(BackgroundPlugin):
    supervision = SupervisionSettings(critical=True, max_restarts=0)

    async def run(self) -> None:
        await trio.sleep(1)
        raise ValueError("vital")
