"""Closes standard output and standard error, as a daemon would."""

from __future__ import annotations

import os
import sys

import trio

from trivet import BackgroundPlugin


class ClosedStderr(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        sys.stdout.close()
        sys.stderr.close()
        os.close(2)
        await trio.sleep_forever()
