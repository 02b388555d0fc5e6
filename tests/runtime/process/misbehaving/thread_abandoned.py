"""Waits for a thread that never ends, and lets go of it when cancelled."""

from __future__ import annotations

import time

import trio

from trivet import BackgroundPlugin


class ThreadAbandoned(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        await trio.to_thread.run_sync(time.sleep, 1000, abandon_on_cancel=True)
