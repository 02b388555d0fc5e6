"""The requests to stop, from signals and from the parent, and how urgent they are.

Owns the steps that follow from each request, and the change to a new program, which is a stop, too.
Never knows what is served.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

import structlog
import trio

from .._runtime import Runtime
from ._escalation import LOOP
from ._hangups import Hangups
from ._parent._manager import ServiceManager
from ._parent._wire import GO, MAKE_ROOM, RESTART_SIGNAL, STAY, STOP_SIGNALS
from ._watchdog import Watchdog

_exit = os._exit  # As it is before a plugin can replace it.
_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("trivet")


class Stop:
    """The requests to stop, and how urgent they are.

    A service manager signals this process and its parent, which passes the request on: that is one
    request. So the side that has asked more often says how urgent the stop is.

    Args:
        watchdog: hears the parent.
        manager: is told of the stop.
        is_hasty: whether a new program takes over without waiting for requests and inboxes.
    """

    def __init__(
        self, watchdog: Watchdog, manager: ServiceManager, *, is_hasty: bool = False
    ) -> None:
        self.watchdog = watchdog
        self.manager = manager
        self.is_hasty = is_hasty
        self._signals = 0
        self._urgency = 0
        self._runtime: Runtime | None = None
        self.serving = trio.CancelScope()
        """The scope of the service; cancelled to begin the stop."""
        self.begun = trio.Event()
        self.turn = trio.Event()
        """Set when a program that waits for an old one may start."""
        self.makes_room = False
        """Whether the stop is for a new program, which waits."""
        self._decided = trio.Event()
        self.hangups = Hangups()
        """The requests to reload, which come as signals, too."""

    def listen(self) -> None:
        """Hear signals from now on, pending ones too; the loop acts on them when it can.

        Signals that were inherited as blocked or ignored are heard.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._heard_before_the_loop)
        signal.signal(signal.SIGHUP, self.hangups.heard_before_the_loop)
        signal.signal(RESTART_SIGNAL, signal.SIG_IGN)  # It is for the parent.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # Or a line for the terminal would stop it.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _heard_before_the_loop(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1  # Also after the loop has ended, when nothing can be hurried.
        if self._signals > 2:
            _exit(LOOP.exit_code)

    def attach(self, runtime: Runtime) -> None:
        """Act on the requests from now on, and on earlier ones at once."""
        self._runtime = runtime
        self.on_parent_request(self.watchdog.requests)

    def on_signal(self) -> None:
        """Count a signal to this process, and act on it."""
        self._signals += 1
        self._act(self._signals)

    def on_parent_request(self, requests: int) -> None:
        """Act on a request of the parent's; it has asked `requests` times."""
        if requests > max(self._urgency, self._signals):
            _log.info("signal received by the parent process", signals=requests)
        self._act(requests)

    @property
    def was_asked_for(self) -> bool:
        """Whether somebody has asked for the stop; otherwise it begins by itself."""
        return self._urgency > 0 or self.makes_room

    def _act(self, requests: int) -> None:
        """First stop; then stop without waiting for HTTP requests and inboxes; then at once."""
        assert self._runtime is not None
        while self._urgency < max(requests, self._signals):
            self._urgency += 1
            if self._urgency == 1:
                if self.makes_room:
                    self._runtime.begin_stop()  # Clients are not waited for any longer.
                self.begun.set()
                self.serving.cancel()
            elif self._urgency == 2:
                self._runtime.hurry()
            else:
                _exit(LOOP.exit_code)

    # The change to a new program.

    def on_word(self, word: bytes) -> None:
        """Act on a word of the parent's about the change from one program to the next."""
        if word == GO:
            self.turn.set()
        elif word == MAKE_ROOM:
            assert self._runtime is not None
            _log.info("a new program takes over")
            self.makes_room = True
            self._runtime.leaving.set()
            self._decided.set()
            if self.is_hasty:
                self._runtime.hurry()
            self.serving.cancel()  # The budget begins when requests on their way are answered.
        elif word == STAY:
            _log.error("no new program takes over: see the lines above")
            self._decided.set()
            self._decided = trio.Event()

    async def replace(self, ask: Callable[[], None]) -> bool:
        """Ask for a new program, and wait until it is checked; says whether it takes over.

        Args:
            ask: asks the parent.
        """
        decided = self._decided
        ask()
        await decided.wait()
        return self.makes_room
