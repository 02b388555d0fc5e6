"""Holds the interpreter in one call of a C function, for ages."""

from __future__ import annotations

import re

from trivet import BackgroundPlugin


class GilRegex(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        re.match(r"(a+)+$", "a" * 64 + "b")
