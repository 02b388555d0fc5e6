"""The words between parent and child, and the numbers that both know.

Owns the bytes on the pipes, the variable that a child inherits, the signals and the exit codes.
Never knows who sends them.
"""

from __future__ import annotations

import signal

HEARTBEAT, CHECKED, FACTS, SERVING, WANTS_RESTART, CLEAN_EXIT = b".", b"c", b"f", b"s", b"r", b"!"
"""Bytes from the child: its event loop turns; its program is checked, and its facts are in the
report; other facts are there, after a reload; it serves; an operator asks for a new program; its
exit code of 0 is meant. A digit is the verdict: the program's exit code, in whatever way the child
ends."""
STOP, MAKE_ROOM, STAY, GO = b"!", b"m", b"k", b"g"
"""Bytes to the child: it is to stop; to stop for a new program, which is checked and waits; to go
on, since the new program did not come up; to start at last, since the old program is gone."""
LIFELINE = "_TRIVET_LIFELINE"
"""The environment variable of a child that is no fork: a JSON object with its descriptors."""
OVERRUN = 72
"""The exit code of a program whose stop this process had to end by a kill."""
UNCLEAN_EXIT = 1
"""The exit code that replaces a 0 without `CLEAN_EXIT`."""
FINAL_CODES = frozenset({0, 2, 3, 4})
"""Codes of the child that become the program's; after any other the child is started again."""
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
RESTART_SIGNAL = signal.SIGUSR2
"""The signal to the parent by which a new program is to take the old one's place."""
BLOCKED_SIGNALS = STOP_SIGNALS | {signal.SIGHUP, RESTART_SIGNAL}
"""Signals that a child starts with blocked, until it can hear them."""
PARENT_SIGNALS = BLOCKED_SIGNALS | {signal.SIGCHLD, signal.SIGALRM, signal.SIGIO}
"""Signals that this process waits for; blocked from before the first child exists."""
RECHECK_AFTER = 1.0
"""Seconds after which a loop that seems held is looked at again: if the whole machine stood still,
the loop's time is over although it had none. Longer than between two beats of a loop that turns."""
NOTE_SIZE = 256
"""Bytes at the beginning of the report for the acts during which the child may end."""
FACTS_SIZE = 1 << 16
"""Bytes after them for the child's facts, a JSON object: `limits`, which are fields of
`ParentConfig`, and `files`, which has the names of the plugins by the file of their code."""
LOG_AT = NOTE_SIZE + FACTS_SIZE
"""The place in the report of the last lines of the log: the number of bytes that were ever logged,
and a ring with the last of them."""
COUNT_SIZE = 8
"""Bytes of that number, the lowest first."""
LOG_SIZE = 1 << 14
"""Bytes of the ring."""
TEXT_AT = LOG_AT + COUNT_SIZE + LOG_SIZE
"""The place in the report where the child's last words begin."""
