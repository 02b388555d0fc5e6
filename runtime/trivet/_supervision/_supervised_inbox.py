"""A plugin's inbox as its supervisor sees it.

Owns the interface between the two.
Never knows events, nor how an inbox keeps them.
"""

from __future__ import annotations

from typing import Protocol

from .._inbox._gate import Gate


class SupervisedInbox(Protocol):
    """A plugin's inbox, as its host, and an operator, use it."""

    is_read: bool
    """Whether the plugin has asked for an event in this lifetime."""
    gate: Gate
    """The way out of the inbox, which an operator may shut."""

    def close(self) -> None:
        """Refuse further events."""

    def retire(self) -> None:
        """Let the plugin finish its events, without those that outlive the program."""

    def lifetime_ended(self, *, crashed: bool) -> None:
        """Take back the events in flight."""

    def abandon(self) -> None:
        """Close, and end every event inside, except those that outlive the program."""

    def reopen(self) -> None:
        """Accept events again, and hand them out."""
