"""What a plugin has used of the event loop.

Owns the words for it.
Never knows how it is measured.
"""

from __future__ import annotations

import attrs

SERVICE = "(service)"
"""In place of a plugin's name: Trivet itself, its server, and whatever no plugin has started."""


@attrs.frozen(kw_only=True)
class Usage:
    """What one plugin has used of the event loop since the program started."""

    busy: float
    """Seconds for which its tasks held the loop; not those in which the machine had no processor
    for a long step."""
    share: float
    """The part of all the time that this is, from 0 to 1."""
    cpu: float
    """Seconds of processor time among these: an estimate, by its part of each second's use."""
    longest: float
    """The longest time, in seconds, for which it held the loop at once."""
    stalls: int
    """How often it held the loop for longer than `[stalls] warn`."""
