"""How a serving process gets its parent, and what it keeps of it.

Owns the fork, the descriptors that go to either side, and the token of a clean end.
Never knows what is served.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

import attrs

from .._program._settings import Settings
from . import _parent
from ._ladder import PARENT
from ._report import Report


@attrs.frozen
class Lifeline:
    """A child's side of its parent."""

    stop: int
    """Readable when the parent wants the stop, at its end when the parent is gone."""
    token: int
    """To be written to: that the event loop turns, and that the end is meant."""
    listener: int
    """The socket, bound before there was a child."""
    report: Report
    """Where the ring that ends the child says why."""

    def beat(self) -> None:
        """Say that the event loop turns."""
        self._say(_parent.BEAT)

    def end_cleanly(self) -> None:
        """Say that the exit code 0 that follows is meant."""
        self._say(_parent.MEANT)

    def give_verdict(self, exit_code: int) -> None:
        """Say what the program's exit code is, in whatever way this process ends.

        Args:
            exit_code: one digit.
        """
        self._say(str(exit_code).encode())

    def _say(self, word: bytes) -> None:
        try:
            os.write(self.token, word)
        except OSError:
            return  # The parent is gone: nobody asks. Or a plugin has closed what is not its own.


def adopted() -> Lifeline | None:
    """The lifeline of a child that its parent has started again; None for any other process."""
    inherited = os.environ.pop(_parent.LIFELINE, None)
    if inherited is None:
        return None
    stop, token, listener, report = map(int, inherited.split(","))
    lifeline = Lifeline(stop, token, listener, Report(report))
    for descriptor in (stop, token, report):
        os.set_inheritable(descriptor, False)  # What a plugin starts has no business with them.
    os.set_blocking(lifeline.token, False)
    return lifeline


def get_parent(settings: Settings, listener: int) -> Lifeline:
    """Fork: this process becomes the parent, and its copy, in which this returns, the child.

    So the parent has the process id that the operator knows, and the child need not import
    everything again. No thread may have been started before. Signals stay blocked in the child.
    """
    stop, tell = os.pipe()
    token, give = os.pipe()
    report = _parent.new_report()
    # Inherited as ignored, it would not be told. What is sent before the parent listens is kept for
    # it, the child's death too.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _parent.AWAITED)
    _parent.adopt_orphans()
    child = os.fork()
    if child:
        _become_parent(settings, [child, tell, token], listener, report)
    os.setpgid(0, 0)
    os.close(tell)
    os.close(token)
    os.set_blocking(give, False)
    return Lifeline(stop, give, listener, Report(report))


def end_copies() -> None:
    """From now on a copy of this process that a plugin forks ends at once, and does nothing.

    It would be a second program on the same sockets. Who forks to run something else is better
    off with `trio.run_process`, or with multiprocessing's spawn; what `preexec_fn` is for breaks.
    """
    os.register_at_fork(after_in_child=partial(os._exit, 1))


def _become_parent(settings: Settings, first: list[int], listener: int, report: int) -> NoReturn:
    for descriptor in (*first[1:], listener, report):
        os.set_inheritable(descriptor, True)
    orders = {
        "command": [sys.executable, *sys.orig_argv[1:]],
        "first": first,
        "listener": listener,
        "report": report,
        "budget": settings.shutdown.budget + PARENT.after,
        "hang_limit": settings.hang_limit + PARENT.after if settings.hang_limit else 0.0,
        **attrs.asdict(settings.restarts),
    }
    script = str(Path(_parent.__file__))
    parent = [sys.executable, "-I", "-S", script, json.dumps(orders)]
    os.execv(sys.executable, parent)  # noqa: S606 - it is this interpreter again
