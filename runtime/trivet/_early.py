"""The first act of the command `trivet serve`: signals, standard streams, and the collector.

Signals that the program is going to hear are blocked. The imports that follow take most of a
second, in which a signal to stop would end the process without a word; and process 1 of a container
would never know of it, because the kernel drops signals that such a process does not handle.
`_serve` listens, and unblocks the signals, which delivers the pending ones.

Closed standard streams are opened onto nothing. Otherwise the listening socket would become
standard output, and get everything that a plugin, or a process of a plugin, prints.

The garbage collector pauses until the program is made; `_program._garbage` resumes it. During the
imports it would search modules, which stay, again and again: a tenth of a start.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

_HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2}


def _open_standard_streams() -> None:
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # The lowest free descriptor.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process


if os.path.basename(sys.argv[0]) == "trivet" and sys.argv[1:2] == ["serve"]:  # noqa: PTH119 - quick
    gc.disable()
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    _open_standard_streams()
