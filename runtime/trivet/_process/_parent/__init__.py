"""The parent process of `trivet serve`: it hears the signals, and outlives whatever the child does.

Never knows Trivet, nor anything beside the standard library: it runs as `python -I -S` with this
folder, in a few MB.

The parent asks the child to stop by a byte on a pipe (by a second byte: to stop without waiting for
anything), and by the pipe's end when the parent is gone. The child says by a byte on another pipe
that it meant to end: an exit code of 0 without that byte was some plugin's. The child's last words,
and the act during which it ended, are in a file without a name, which both processes have open.
"""
