"""The kit for tests of plugins.

    _programs       a small program around the plugins under test
    _accidents      a plugin that crashes, or is cancelled at each of its checkpoints
    _leaks          what a plugin has left behind

Under pytest-trio's `autojump_clock` time passes by itself, so a test of a plugin that waits for an
hour takes no time. Tests with real sockets, threads or processes need the real clock. The test
itself must take that fixture as an argument.
"""

from ._accidents import CancellationError as CancellationError
from ._accidents import cancel_everywhere as cancel_everywhere
from ._accidents import crash as crash
from ._leaks import LeakError as LeakError
from ._leaks import no_leaks as no_leaks
from ._programs import OpenPlugins as OpenPlugins
from ._programs import Published as Published
from ._programs import SlowRetryError as SlowRetryError
from ._programs import client as client
from ._programs import open_plugins as open_plugins
from ._programs import recorded as recorded
from ._programs import serving as serving
