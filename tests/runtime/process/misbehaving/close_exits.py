"""Calls `sys.exit()` where it should clean up."""

from __future__ import annotations

import sys

from trivet import BackgroundPlugin


class CloseExits(BackgroundPlugin):
    async def close(self) -> None:
        sys.exit(5)
