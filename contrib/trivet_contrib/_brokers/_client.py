"""What a connector's client offers to its plugin: messages, a consumer, a producer, and its errors.

Owns the words between the two, in which one connector is like another.
Never knows Trivet, nor any broker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import msgspec

LONGEST = 300
"""Characters of what an exception says."""


def in_words(error: Exception) -> str:
    """An exception in one line, not too long; what an author's says of itself may raise, too."""
    try:
        said = " ".join(str(error)[:LONGEST].split())
    except Exception:
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


class AwayError(Exception):
    """The broker cannot be asked now; its text says why, without credentials."""


class CutOffError(AwayError):
    """The broker has ended the connection while something was asked of it, and does not say why."""


class MessageRefusedError(AwayError):
    """The broker refuses one of the messages that were being sent, and does not say which."""


class RefusedError(AwayError):
    """The broker answers, and what the settings ask for is not to be had of it.

    Args:
        setting: the setting that is wrong, as far as can be known.
        reason: what the broker says, or what is missing.
    """

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason


class UnsendableError(Exception):
    """Some of the messages can never be sent.

    Args:
        reasons: why, by the places of those messages among all.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons


class Message(msgspec.Struct, frozen=True, eq=False):
    """What a broker carries."""

    body: bytes
    headers: Mapping[str, str]
    id: str = ""
    """What one that is sent twice is known by: its event's source and id."""


class Received(Message, frozen=True, eq=False, kw_only=True):
    """A message that a consumer has in hand."""

    tag: str
    """By what its broker knows it."""
    deliveries: int = 1
    """How often it was handed to a consumer, this time included."""
    fault: str | None = None
    """Why there is no body, where there is none."""
    raw: object = None
    """The client's own."""


class Consumer(ABC):
    """One connection over which messages come. Every method may raise `AwayError`."""

    not_promised: tuple[str, ...] = ()
    """What an operator should know: how the broker is set up so that it may lose something."""
    visibility: float
    """Seconds after which the broker may hand a message that is in hand here to somebody else."""

    @abstractmethod
    async def fetch(self, count: int) -> list[Received]:
        """Wait for messages, at most so many; now and then there is none.

        Those that this consumer had in hand over an earlier connection come first, and after them
        those that others have let lie.
        """

    @abstractmethod
    async def acknowledge(self, messages: Sequence[Received]) -> int:
        """Tell the broker that these messages are done.

        Returns:
            How many of them were not in hand any more, as far as the broker says.
        """

    @abstractmethod
    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        """Have messages that failed handed to somebody again, not at once, and count it.

        Returns:
            Those that nobody would be handed again, each with why.
        """

    @abstractmethod
    async def bury(self, messages: Sequence[tuple[Received, str]]) -> None:
        """Put these to the dead letters, each with the reason."""

    @abstractmethod
    async def extend(self, messages: Sequence[Received]) -> None:
        """These are still in hand."""

    @abstractmethod
    async def leave(self) -> None:
        """Give back, unblamed, everything that is in hand; nothing is fetched after this."""


class Producer(ABC):
    """One connection over which messages are sent."""

    not_promised: tuple[str, ...] = ()
    """As a consumer's."""

    @abstractmethod
    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """Send messages, in order, and wait until the broker has them.

        Args:
            messages: all of them are sent, or tried to be.
            taken: gets the place of each message that the broker says it has; of all of them
                where nothing is raised. What is not in it may have arrived as well.

        Raises:
            AwayError: the broker does not say of all of them that it has them.
            MessageRefusedError: because it refuses one of them.
            UnsendableError: some can never be sent; they were not.
        """
