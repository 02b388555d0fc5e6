"""What the command `trivet serve` does first of all: it puts off the signals that it is to hear.

Imported before the rest, which takes most of a second. Meanwhile a signal to stop would end the
process without a word, and process 1 of a container would never know of it: the kernel drops what
such a process does not handle. `_serve` listens, and has what was put off delivered.
"""

from __future__ import annotations

import os
import signal
import sys

if os.path.basename(sys.argv[0]) == "trivet" and sys.argv[1:2] == ["serve"]:  # noqa: PTH119 - quick
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
