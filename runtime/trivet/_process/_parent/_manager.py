"""The service manager that has started this process, such as systemd.

Owns the datagrams to it.
Never knows when there is something to tell.
"""

from __future__ import annotations

import os
from collections.abc import Mapping


class ServiceManager:
    """systemd, where it has started this process by `Type=notify`; elsewhere it hears nothing.

    Args:
        environ: the environment, which says where and how often the manager listens.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        limit = environ.get("WATCHDOG_USEC", "") if watched else ""
        self.alive_every = int(limit) / 2e6 if limit.isdecimal() else float("inf")
        """Seconds between two signs of life, half of the manager's limit; infinite for none."""

    def tell_alive(self) -> None:
        """Send a sign of life, where the manager waits for them."""
        if self.alive_every < float("inf"):
            self.tell("WATCHDOG=1")

    def tell(self, state: str) -> None:
        """Send a state, such as `READY=1`, in one datagram; it is lost if it cannot be sent."""
        if not self._address:
            return
        import socket  # noqa: PLC0415 - which most programs do not need here

        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(state.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError:
            return
