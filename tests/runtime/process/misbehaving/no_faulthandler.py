"""Disarms faulthandler, then holds the loop."""

from __future__ import annotations

import faulthandler

from trivet import BackgroundPlugin


class NoFaulthandler(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        while True:
            pass
