"""What the sinks that speak HTTP share: a request for some events, and what its answer means.

Owns the promise: an event is done when it was answered for, one that is not wanted costs no other,
and whoever does not answer is asked again as the delivery's `retry…` says.
Never knows what is sent, nor where to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

import attrs
import httpx
import trio
from attrs.validators import gt

from trivet import (
    Batch,
    BatchPlugin,
    Delivery,
    DeliverySettings,
    Event,
    PermanentError,
    RetryAfter,
    TrivetError,
)

from ._answers import Answer

E = TypeVar("E", bound=Event)

ABOUT_THE_EVENTS = frozenset({400, 406, 411, 413, 415, 422})
"""Answers that say something about the events, and nothing about who answers. Every other that is
not a good one is about who answers, or about the settings, and may be another in a while."""
GONE = 410
"""Who answers this will never want anything again."""


class SinkError(TrivetError):
    """Events were not taken, and may be another time."""


class SinkRefusedError(SinkError, PermanentError):
    """Events will not be taken, however often they are sent."""


class EventsRefusedError(SinkRefusedError):
    """It is one of the events, or how many they are, and not who sends them, or where to."""


def is_http_url(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    """Refuse what is no URL of HTTP; the message does not show it."""
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise ValueError("not a URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("an http or https URL is needed, such as 'https://example.org/events'")


class HttpSink(BatchPlugin[E]):
    """Sends events, a request for each batch of them."""

    delivery = DeliverySettings(time_limit=0)  # `timeout` is the limit of each request.

    timeout: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds for one request, from the connection to the end of the answer."""
    ca_file: Path | None = None
    """Certificates of the authorities to trust instead of the usual ones, as PEM."""

    receiver: ClassVar[str] = "the receiver"
    """What logs call who answers."""

    @abstractmethod
    async def send(self, deliveries: Sequence[Delivery[E]]) -> Answer | None:
        """Send them as one request; None where there was nothing to send.

        Raises:
            EventsRefusedError: one of them cannot be said.
            httpx.HTTPError: there was no answer.
        """

    @abstractmethod
    def to_blame(self, status: int) -> str:
        """The settings that lead to an answer, as `url`; an empty text where it is not known."""

    @abstractmethod
    def secrets_of_settings(self) -> Iterable[str]:
        """What no log may show, and whoever answers might repeat."""

    async def handle_batch(self, events: Batch[E]) -> None:
        """Send some events. Those that are refused are found by halves, and given up alone.

        Raises:
            SinkError: they were not taken, or not all of them.
            RetryAfter: the same, and it was said when they may be.
        """
        parts = [events.deliveries]
        while parts:
            part = parts.pop()
            try:
                await self._send(part)
            except EventsRefusedError as error:
                if len(part) == 1:
                    self.inbox.reject(part[0], error)
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
            else:
                for delivery in part:  # What comes after these may fail.
                    self.inbox.accept(delivery)

    async def _send(self, deliveries: Sequence[Delivery[E]]) -> None:
        try:
            with trio.fail_after(self.timeout):
                answer = await self.send(deliveries)
        except trio.TooSlowError:
            raise self._trouble(SinkError(f"no answer within {self.timeout:g} s")) from None
        except httpx.HTTPError as cause:
            error = SinkError(f"no answer: {type(cause).__name__}: {cause}")
            raise self._trouble(error) from cause
        if answer is not None:
            self._heed(answer)

    def _heed(self, answer: Answer) -> None:
        """Raise where events were not taken, and say how the receiver is."""
        if 200 <= answer.status <= 299:
            self.recover()
            return
        if answer.status in ABOUT_THE_EVENTS:
            self.recover()  # It is there, and takes others.
            raise EventsRefusedError(self.said(answer))
        self.degrade(self.said(attrs.evolve(answer, reason="")))  # One trouble, whatever it adds.
        if answer.status == GONE:
            raise SinkRefusedError(self.said(answer))
        if answer.retry_after is not None:
            raise RetryAfter(answer.retry_after, self.said(answer))
        raise SinkError(self.said(answer))

    def said(self, answer: Answer) -> str:
        """An answer that was no good one, for logs."""
        settings, reason = self.to_blame(answer.status), answer.reason
        for secret in self.secrets_of_settings():
            if secret:
                reason = reason.replace(secret, "…")
        see = f" (see {settings} of {self.name!r})" if settings else ""
        return f"{self.receiver} answered {answer.status}{see}{': ' if reason else ''}{reason}"

    def _trouble(self, error: SinkError) -> SinkError:
        self.degrade(str(error))
        return error
