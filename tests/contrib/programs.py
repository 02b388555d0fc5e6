"""Programs that tests start.

Owns the process, the free ports, and the skipping of tests whose program is not installed.
Never knows a particular program.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
import trio


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test if a program is not on the PATH; in CI the test fails instead."""
    is_missing = shutil.which(program) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(is_missing, reason=f"{program} is not on the PATH")


PORTS = range(10_000, 32_768)
"""Ports that the system gives to no connection: those begin above, where it is not told otherwise.

So a server finds its port free when it is started again, and a client that asks for a server which
is away is not connected with itself.
"""


def free_port() -> int:
    """A port without a listener."""
    dice = random.SystemRandom()  # Tests in other processes do not get the same ones.
    while True:
        port = dice.choice(PORTS)
        with socket.socket() as bound:
            try:
                bound.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Program:
    """The process of a server, which can be ended and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """The program's directory; its output is in `log` there."""
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def said(self) -> str:
        """The output of the program."""
        return (self.directory / "log").read_text()

    @property
    def pid(self) -> int | None:
        """The process while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def run(self, *command: str) -> None:
        """Start the program."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    async def kill(self) -> None:
        """Kill the program, as a fault of its machine would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        """Make the program hang."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Make the program go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


async def until_it_answers(program: Program, path: str) -> None:
    """Wait for a good answer of a program over HTTP."""
    while not await _answers(f"http://127.0.0.1:{program.port}{path}"):
        assert program.pid is not None, program.said
        await trio.sleep(0.02)


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(url)).is_success
    except httpx.TransportError:
        return False
