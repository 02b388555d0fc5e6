"""A plugin's use of the event loop, as the program shows it.

Owns the figures and their names.
Never knows how they are measured.
"""

from __future__ import annotations

import attrs

SERVICE = "(service)"
"""The name for everything that no plugin has started: Trivet itself, and its server."""


@attrs.frozen(kw_only=True)
class Usage:
    """One plugin's use of the event loop since the program started."""

    busy: float
    """Seconds for which the plugin's tasks held the loop, without those in which the machine had no
    processor for a long step."""
    share: float
    """The same as a share of the whole time, from 0 to 1."""
    cpu: float
    """Seconds of processor time among them: an estimate, by the plugin's share of each second."""
    longest: float
    """The longest time, in seconds, for which the plugin held the loop at once."""
    stalls: int
    """The number of times that the plugin held the loop for longer than `[stalls] warn`."""
    stalled: float
    """Seconds of these times."""
