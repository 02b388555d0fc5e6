"""Calls itself without an end."""

from __future__ import annotations

from trivet import BackgroundPlugin


def again(depth: int) -> int:
    return again(depth + 1) + 1


class Recursion(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        again(0)
