"""Shuts down the socket at which the service listens."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import trio

from trivet import BackgroundPlugin


class LostListener(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        while not self.lose():
            await trio.sleep(0.05)
        await trio.sleep_forever()

    def lose(self) -> bool:
        lost = False
        for file in list(Path("/proc/self/fd").iterdir()):
            try:
                copy = os.dup(int(file.name))
            except OSError:
                continue  # The listing's own, which is closed.
            try:
                found = socket.socket(fileno=copy)
            except OSError:
                os.close(copy)
                continue  # No socket.
            with found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.shutdown(socket.SHUT_RDWR)
                    lost = True
        return lost
