"""Waits for a thread that never ends."""

from __future__ import annotations

import threading

import trio

from trivet import BackgroundPlugin


class ThreadNotAbandoned(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        await trio.to_thread.run_sync(threading.Event().wait)
