"""Leaves a process behind, in a session and a group of its own."""

from __future__ import annotations

import subprocess

import trio

from trivet import BackgroundPlugin


class Daemon(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        subprocess.Popen(["setsid", "--fork", "sleep", "1000"])
        await trio.sleep_forever()
