"""Deletes every timer of the kernel, then holds the interpreter."""

from __future__ import annotations

import ctypes
from collections import deque
from itertools import repeat

from trivet import BackgroundPlugin


class NoTimer(BackgroundPlugin):
    async def run(self) -> None:
        self.log.info("misbehaving")
        libc = ctypes.CDLL(None)
        for number in range(64):
            libc.timer_delete(ctypes.c_void_p(number))
        deque(repeat(None), maxlen=0)
