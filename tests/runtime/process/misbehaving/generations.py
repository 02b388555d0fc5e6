"""Leaves a process, its child, its child's child, and so on, each in a session of its own."""

from __future__ import annotations

import subprocess
import sys

import trio

from trivet import BackgroundPlugin

FAMILY = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for generation in range(60):
    if os.fork():
        break
    os.setsid()
else:
    print("all", flush=True)
time.sleep(1000)
"""


class Generations(BackgroundPlugin):
    async def run(self) -> None:
        process = subprocess.Popen([sys.executable, "-S", "-c", FAMILY], stdout=subprocess.PIPE)
        assert process.stdout is not None
        await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
        self.log.info("misbehaving")
        await trio.sleep_forever()
