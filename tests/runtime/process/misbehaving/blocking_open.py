"""Opens a pipe that nobody writes to."""

from __future__ import annotations

import os
import tempfile

from trivet import BackgroundPlugin


class BlockingOpen(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        path = f"{tempfile.mkdtemp()}/pipe"
        os.mkfifo(path)
        open(path).read()
