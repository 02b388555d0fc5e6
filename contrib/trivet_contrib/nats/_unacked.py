"""The unacknowledged messages of a program, over all its connections.

Owns which of them are still to be fetched.
Never knows the server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

from .._brokers._client import Received


@attrs.define
class Unacked:
    """The messages that NATS has sent and that are not acknowledged."""

    messages: dict[str, Received] = attrs.field(factory=dict[str, Received])
    """The unacknowledged messages, by tag."""
    buffered: deque[Received] = attrs.field(factory=deque[Received])
    """The messages that were not fetched yet."""

    def add(self, message: Received) -> None:
        """Count a message that has come."""
        self.messages[message.tag] = message
        self.buffered.append(message)

    def remove(self, messages: Sequence[Received]) -> None:
        """Forget messages, after the server has heard how they ended."""
        for message in messages:
            self.messages.pop(message.tag, None)

    def clear(self) -> None:
        """Forget all messages."""
        self.messages.clear()
        self.buffered.clear()
