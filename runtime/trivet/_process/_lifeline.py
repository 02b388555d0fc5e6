"""A serving process gets its parent, and keeps a lifeline to it.

Owns the fork, the descriptors that go to either side, and the bytes that the child sends.
Never knows what is served.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import attrs

from .._program._settings import Settings
from ._escalation import PARENT
from ._parent._last_words import create_report
from ._parent._orphans import adopt_orphans
from ._parent._wire import (
    CHECKED,
    CLEAN_EXIT,
    FACTS,
    HEARTBEAT,
    LIFELINE,
    PARENT_SIGNALS,
    SERVING,
    WANTS_RESTART,
)
from ._report import Report
from ._sockets import Listeners, addresses_of


@attrs.frozen
class Lifeline:
    """A child's side of the pipes to its parent, and what else the parent hands down."""

    stop_read: int
    """Readable when the parent asks for the stop; at its end when the parent is gone."""
    beat_write: int
    """Takes the heartbeats of the event loop, the verdict and the sign of a clean exit."""
    listeners: Listeners
    """The sockets, bound before there was a child."""
    report: Report
    """The last words of this process, which the parent prints."""
    addresses: list[str]
    """The addresses to which the sockets are bound."""
    disabled: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict[str, Mapping[str, str]])
    """The reasons for which plugins start disabled, by name, by `file` and `plugin`."""
    deaths: Sequence[Mapping[str, object]] = ()
    """The accounts of earlier deaths of the program, the oldest first."""
    waits: bool = False
    """Whether this process waits, once its program is checked, until an old one has made room."""

    def send_heartbeat(self) -> None:
        """Tell the parent that the event loop turns."""
        self._send(HEARTBEAT)

    def send_checked(self, facts: Mapping[str, object]) -> None:
        """Tell the parent that the program is imported and checked.

        Args:
            facts: its facts, which the parent may ask for.
        """
        self.report.state(facts)
        self._send(CHECKED)

    def send_facts(self, facts: Mapping[str, object]) -> None:
        """Tell the parent that the program's facts are others, after a reload.

        Args:
            facts: all of them; see `send_checked`.
        """
        self.report.state(facts)
        self._send(FACTS)

    def send_serving(self) -> None:
        """Tell the parent that the program serves."""
        self._send(SERVING)

    def ask_for_restart(self) -> None:
        """Ask the parent for a new program in the place of this one."""
        self._send(WANTS_RESTART)

    def send_clean_exit(self) -> None:
        """Tell the parent that the exit code 0 that follows is meant."""
        self._send(CLEAN_EXIT)

    def send_verdict(self, exit_code: int) -> None:
        """Tell the parent the program's exit code, in whatever way this process ends.

        Args:
            exit_code: one digit.
        """
        self._send(str(exit_code).encode())

    def _send(self, byte: bytes) -> None:
        try:
            os.write(self.beat_write, byte)
        except OSError:
            return  # The parent is gone. Or a plugin has closed a descriptor that is not its own.


def inherited_lifeline() -> Lifeline | None:
    """The lifeline of a child that its parent has started again; None in any other process."""
    inherited = os.environ.pop(LIFELINE, None)
    if inherited is None:
        return None
    given = json.loads(inherited)
    for name in ("stop_read", "beat_write", "report"):
        os.set_inheritable(given[name], False)  # They are not for the processes of a plugin.
    os.set_blocking(given["beat_write"], False)
    return Lifeline(
        given["stop_read"],
        given["beat_write"],
        Listeners(given["public"], given["management"]),
        Report(given["report"]),
        given["addresses"],
        given["disabled"],
        given["deaths"],
        given["waits"],
    )


def fork_under_parent(settings: Settings, listeners: Listeners) -> Lifeline:
    """Fork: this process becomes the parent, and its copy, in which this returns, the child.

    So the parent has the process id that the operator knows, and the child need not import
    everything again. No thread may have been started before. Signals stay blocked in the child.
    """
    stop_read, stop_write = os.pipe()
    beat_read, beat_write = os.pipe()
    report = create_report()
    # An ignored SIGCHLD would not be delivered. A signal that comes before the parent listens stays
    # pending for it, that of the child's death too.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, PARENT_SIGNALS)
    adopt_orphans()
    child = os.fork()
    if child:
        _become_parent(settings, [child, stop_write, beat_read, report], listeners)
    os.setpgid(0, 0)
    os.close(stop_write)
    os.close(beat_read)
    os.set_blocking(beat_write, False)
    return Lifeline(stop_read, beat_write, listeners, Report(report), addresses_of(settings))


def end_forked_copies() -> None:
    """End every copy of this process that a plugin forks from now on, before it does anything.

    The copy would be a second program on the same sockets. A plugin that forks to run something
    else is better off with `trio.run_process`, or with multiprocessing's spawn. `preexec_fn` does
    not work any more.
    """
    os.register_at_fork(after_in_child=partial(os._exit, 1))


def limits_of(settings: Settings) -> dict[str, object]:
    """The limits of the parent that come from the settings, in seconds."""
    return {
        "budget": settings.shutdown.budget + PARENT.after,
        "hang_limit": settings.hang_limit + PARENT.after if settings.hang_limit else 0.0,
        **attrs.asdict(settings.restarts),
    }


def _become_parent(settings: Settings, first: list[int], listeners: Listeners) -> NoReturn:
    for descriptor in (*first[1:], *listeners.all):
        os.set_inheritable(descriptor, True)
    config = {
        "command": [sys.executable, *sys.orig_argv[1:]],
        "first": first,
        "listeners": listeners.all,
        "public": len(listeners.public),
        "addresses": addresses_of(settings),
        **limits_of(settings),
    }
    folder = str(Path(__file__).parent / "_parent")
    parent = [sys.executable, "-I", "-S", folder, json.dumps(config)]
    os.execv(sys.executable, parent)  # noqa: S606 - it is this interpreter again
