"""Ends the process behind everybody's back."""

from __future__ import annotations

import os

from trivet import BackgroundPlugin


class Exits(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        os._exit(0)
