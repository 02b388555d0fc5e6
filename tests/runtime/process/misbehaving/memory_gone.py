"""Takes all the memory that there is, and keeps it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import trio

from trivet import BackgroundPlugin

FULL = b"trivet: the memory is full\n"


class MemoryGone(BackgroundPlugin):
    async def run(self) -> None:
        await trio.sleep(0.5)  # Others have what they need by then.
        self.log.info("misbehaving")
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 32 * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        kept: list[bytearray] = []
        size = 1024 * 1024
        while size > 4096:
            try:
                kept.append(bytearray(size))
            except MemoryError:
                size //= 2
        os.write(2, FULL)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
