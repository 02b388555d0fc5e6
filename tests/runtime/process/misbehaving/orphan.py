"""Leaves a process behind."""

from __future__ import annotations

import subprocess

import trio

from trivet import BackgroundPlugin


class Orphan(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        subprocess.Popen(["sleep", "1000"])
        await trio.sleep_forever()
