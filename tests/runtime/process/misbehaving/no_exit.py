"""Replaces the function that ends a process, then cannot be cancelled."""

from __future__ import annotations

import os

import trio

from trivet import BackgroundPlugin


def stay(code: int) -> int:
    return code


class NoExit(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        setattr(os, "_exit", stay)  # noqa: B010
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
