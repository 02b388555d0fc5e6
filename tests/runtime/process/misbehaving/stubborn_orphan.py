"""Leaves a process behind that ignores SIGTERM, in a session of its own."""

from __future__ import annotations

import subprocess

import trio

from trivet import BackgroundPlugin


class StubbornOrphan(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 1000"], start_new_session=True)
        await trio.sleep_forever()
