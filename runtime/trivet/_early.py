"""What the command `trivet serve` does first of all: it puts in order what it was started with.

Signals that it is to hear are put off. The imports that follow take most of a second, in which a
signal to stop would end the process without a word, and process 1 of a container would never know
of it: the kernel drops what such a process does not handle. `_serve` listens, and has what was put
off delivered.

Standard streams that were closed are opened onto nothing. Otherwise the listening socket would be
standard output, and what a plugin prints, or a process that it starts, would go there.
"""

from __future__ import annotations

import os
import signal
import sys


def _open_standard_streams() -> None:
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # The lowest one that is free.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process


if os.path.basename(sys.argv[0]) == "trivet" and sys.argv[1:2] == ["serve"]:  # noqa: PTH119 - quick
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    _open_standard_streams()
