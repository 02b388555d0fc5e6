"""Closes every pipe that it finds, those to the parent process too."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from trivet import BackgroundPlugin


class NoPipes(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        for file in list(Path("/proc/self/fd").iterdir()):
            if int(file.name) > 2 and file.is_fifo():
                os.close(int(file.name))
        await trio.sleep_forever()
