"""Ignores the signals that ask for the stop."""

from __future__ import annotations

import signal

import trio

from trivet import BackgroundPlugin


class SignalsIgnored(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        await trio.sleep_forever()
