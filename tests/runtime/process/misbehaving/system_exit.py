"""Calls `sys.exit()` as a program would."""

from __future__ import annotations

import sys

from trivet import BackgroundPlugin


class Leaves(BackgroundPlugin):
    name = "system_exit"

    async def run(self) -> None:
        self.log.info("misbehaving")
        sys.exit()
