"""The interface between a connector's client and its plugin: messages, consumer, producer, errors.

Owns the terms that are the same in every connector.
Never knows Trivet, nor a particular broker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import attrs
import msgspec


class BrokerUnavailableError(Exception):
    """The broker gives no answer now; the text says why, without credentials."""


class ConnectionLostError(BrokerUnavailableError):
    """The broker ended the connection during a request, without a reason."""


class MessageRefusedError(BrokerUnavailableError):
    """The broker refuses one of the messages that were being sent, without naming it."""


class BrokerRefusedError(BrokerUnavailableError):
    """The broker answers, and refuses something that the settings ask for.

    Args:
        setting: the setting that is probably wrong.
        reason: the broker's own words, or what is missing.
    """

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason


class UnsendableMessagesError(Exception):
    """Some of the messages can never be sent.

    Args:
        reasons: why, by the index of each such message.
    """

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = reasons


@attrs.frozen(kw_only=True)
class Server:
    """The address of a broker, and the time limit of its answers."""

    url: str = attrs.field(repr=False)
    """The URL from the settings; it may hold a password."""
    timeout: float = 5.0
    """Seconds for one answer, and for one attempt to connect."""
    name: str = ""
    """The connection's name in the broker's own lists, if the protocol has such names."""


class Message(msgspec.Struct, frozen=True, eq=False):
    """A message as a broker carries it."""

    body: bytes
    headers: Mapping[str, str]
    id: str = ""
    """The key of duplicates: the source and id of the event."""


class Received(Message, frozen=True, eq=False, kw_only=True):
    """A message that was delivered to a consumer and is not acknowledged yet."""

    tag: str
    """The broker's identifier of the message."""
    deliveries: int = 1
    """How often the message was delivered to a consumer, this time included."""
    fault: str | None = None
    """Why the message has no body, if it has none."""
    raw: object = None
    """The library's own message, for the client alone."""


class Client:
    """One connection to a broker."""

    missing_guarantees: tuple[str, ...] = ()
    """Ways in which the broker, as it is set up, may lose something; an operator should know."""


class Consumer(Client, ABC):
    """One connection over which messages come. Every method may raise `BrokerUnavailableError`."""

    visibility: float
    """Seconds after which the broker may deliver an unacknowledged message to another consumer."""

    @abstractmethod
    async def fetch(self, count: int) -> list[Received]:
        """Wait for messages, at most `count`; the list may be empty.

        Messages that this consumer had in flight over an earlier connection come first, then those
        that other consumers left unacknowledged for too long.
        """

    @abstractmethod
    async def acknowledge(self, messages: Sequence[Received]) -> int:
        """Tell the broker that these messages are done.

        Returns:
            How many of them were no longer in flight here, as far as the broker says.
        """

    @abstractmethod
    async def retry(self, messages: Sequence[Received]) -> list[tuple[Received, str]]:
        """Have failed messages delivered again after a while, each with its delivery counted.

        Returns:
            The messages that the broker cannot deliver again, each with the reason.
        """

    @abstractmethod
    async def dead_letter(self, messages: Sequence[tuple[Received, str]]) -> None:
        """Move messages to the dead letters, each with its reason."""

    @abstractmethod
    async def extend(self, messages: Sequence[Received]) -> None:
        """Tell the broker that these messages are still in flight here."""

    @abstractmethod
    async def release(self) -> None:
        """Give back every message in flight, without blame; nothing is fetched afterwards."""


def check_sizes(
    messages: Sequence[Message], size_of: Callable[[Message], int], largest: float, broker: str
) -> None:
    """Raise `UnsendableMessagesError` if some messages are larger than a broker takes."""
    too_large = {
        index: f"it is larger than {broker} takes: {size} bytes, of {largest}"
        for index, message in enumerate(messages)
        if (size := size_of(message)) > largest
    }
    if too_large:
        raise UnsendableMessagesError(too_large)


class Producer(Client, ABC):
    """One connection over which messages are sent."""

    @abstractmethod
    async def send(self, messages: Sequence[Message], taken: set[int]) -> None:
        """Send messages in order, and wait until the broker has them.

        Args:
            messages: all messages; each of them is sent, or attempted.
            taken: receives the index of each message that the broker confirms. If nothing is
                raised, the broker has all of them. A message that is missing here may have arrived
                as well.

        Raises:
            BrokerUnavailableError: the broker did not confirm all messages.
            MessageRefusedError: the broker refuses one of the messages.
            UnsendableMessagesError: some messages can never be sent, and were not.
        """
