"""The words between parent and child, and the numbers that both know.

Owns the bytes on the pipes, the variable that a child inherits, the signals and the exit codes.
Never knows who sends them.
"""

from __future__ import annotations

import signal

HEARTBEAT, CLEAN_EXIT = b".", b"!"
"""Bytes from the child: its event loop turns; its exit code of 0 is meant. A digit is the verdict:
the program's exit code, in whatever way the child ends."""
LIFELINE = "_TRIVET_LIFELINE"
"""The environment variable of a restarted child: its descriptors, `STOP,BEAT,REPORT,LISTENER,…`."""
OVERRUN = 72
"""The exit code of a program whose stop this process had to end by a kill."""
UNCLEAN_EXIT = 1
"""The exit code that replaces a 0 without `CLEAN_EXIT`."""
FINAL_CODES = frozenset({0, 2, 3, 4})
"""Codes of the child that become the program's; after any other the child is started again."""
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
BLOCKED_SIGNALS = STOP_SIGNALS | {signal.SIGHUP}
"""Signals that a child starts with blocked, until it can hear them."""
PARENT_SIGNALS = BLOCKED_SIGNALS | {signal.SIGCHLD, signal.SIGALRM}
"""Signals that this process waits for; blocked from before the first child exists."""
RECHECK_AFTER = 1.0
"""Seconds after which a loop that seems held is looked at again: if the whole machine stood still,
the loop's time is over although it had none. Longer than between two beats of a loop that turns."""
NOTE_SIZE = 256
"""Bytes at the beginning of the report for the acts during which the child may end."""
