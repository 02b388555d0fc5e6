"""What the sinks that speak HTTP share: a request for some events, and what its answer means.

Owns the promise: an event is done when it was answered for, one that is not wanted costs no other,
and whoever does not answer is asked again as the delivery's `retry…` says.
Never knows what is sent, nor where to.
"""

from __future__ import annotations

import math
import ssl
from abc import abstractmethod
from collections.abc import Container, Iterable, Sequence
from itertools import chain
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
    TrivetError,
)

from ._answers import Answer, shown, trust_in, words

E = TypeVar("E", bound=Event)

ABOUT_THE_EVENTS = frozenset({400, 406, 409, 411, 413, 415, 422})
"""Answers that say something about the events, and nothing about who answers. Every other that is
not a good one is about who answers, or about the settings, and may be another in a while."""
GONE = 410
"""Who answers this will never want anything again."""
FAILED = 500
"""Who answers this has failed itself, perhaps at one of the events."""
MANY = 10
"""Events refused one after the other, with which it is no more about the events."""
SUSPECTS = 1000
"""Events that are remembered to have failed alone."""
LONGEST_PAUSE = 3600.0
"""Seconds for which a receiver can ask not to be asked."""


class SinkError(TrivetError):
    """Events were not taken, and may be another time."""


class SinkRefusedError(SinkError, PermanentError):
    """Events will not be taken, however often they are sent."""


class EventsRefusedError(SinkRefusedError):
    """It is one of the events, or how many they are, and not who sends them, or where to."""


class ReceiverFailedError(SinkError):
    """Who was sent the events has failed, perhaps at one of them."""


class NoAnswerError(ReceiverFailedError):
    """Who was sent the events has not answered."""


def is_http_url(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    """Refuse what is no URL of HTTP; the message does not show it."""
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        raise ValueError("not a URL") from None
    if url.scheme not in ("http", "https") or not url.host or (url.port or 1) > 65535:
        raise ValueError("an http or https URL is needed, such as 'https://example.org/events'")


def is_readable(_plugin: object, _field: attrs.Attribute[Path | None], value: Path | None) -> None:
    """Refuse a file of certificates that is none."""
    if value is None:
        return
    try:
        trust_in(value)
    except ssl.SSLError:
        raise ValueError(f"there are no certificates in PEM form in {value}") from None
    except OSError as error:
        raise ValueError(f"{value} cannot be read: {error.strerror}") from None


class HttpSink(BatchPlugin[E]):
    """Sends events, a request for each batch of them."""

    delivery = DeliverySettings(time_limit=0)  # `timeout` is the limit of each request.

    timeout: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds for one request, from the connection to the end of the answer."""
    ca_file: Path | None = attrs.field(default=None, validator=is_readable)
    """Certificates of the authorities to trust instead of the usual ones, as PEM."""

    good: ClassVar[Container[int]] = range(200, 300)
    """The answers with which events are taken."""
    receiver: ClassVar[str] = "the receiver"
    """What logs call who answers."""

    _not_before: float = -math.inf
    """When the receiver wants to be asked again."""
    _answered: int = 0
    """What it answers since it is in trouble, where it does."""
    _refused: int = 0
    """Events that it did not want, since it has taken one."""
    _suspects: set[tuple[str, str]] = attrs.field(factory=set[tuple[str, str]])
    """Events at which it failed although they were alone."""

    @abstractmethod
    async def send(self, deliveries: Sequence[Delivery[E]]) -> Answer | None:
        """Send them as one request; None where there was nothing to send.

        Raises:
            EventsRefusedError: one of them cannot be said.
            SinkError: they cannot be sent now.
            httpx.HTTPError: there was no answer.
            trio.TooSlowError: nor any within `timeout`.
        """

    @abstractmethod
    def to_blame(self, status: int) -> str:
        """The settings that lead to an answer, as `url`; an empty text where it is not known."""

    @abstractmethod
    def secrets_of_settings(self) -> Iterable[str]:
        """What no log may show, and whoever answers might repeat."""

    async def handle_batch(self, events: Batch[E]) -> None:
        """Send some events. Those that are refused are found by halves, and given up alone.

        Events at which the receiver itself fails a second time, or does not answer, are sent one by
        one, as it may be at one of them only that it does; and one at which it failed alone goes
        alone from then on. Who does not answer for two on end is not asked about the others.

        Raises:
            SinkError: they were not taken, or not all of them.
        """
        together: Sequence[Delivery[E]] = events.deliveries
        if self._suspects:
            alone = [each for each in together if _identity(each) in self._suspects]
            together = [each for each in together if _identity(each) not in self._suspects]
            for delivery in alone:
                await self._send_alone(delivery)
        if together:
            await self._send_in_parts(together)

    async def _send_in_parts(self, deliveries: Sequence[Delivery[E]]) -> None:
        parts = [deliveries]
        while parts:
            part = parts.pop()
            try:
                await self._send(part)
            except EventsRefusedError as error:
                if len(part) == 1:
                    self._refuse(part[0], error)
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
            except ReceiverFailedError:
                left = [*part, *chain.from_iterable(reversed(parts))]
                if len(left) == 1 or all(each.attempt == 1 for each in left):
                    raise
                await self._send_one_by_one(left)
                return
            else:
                self._refused = 0
                if parts:  # Which may fail. What is sent last is done when the batch is, at once.
                    self._accept(part)

    async def _send_one_by_one(self, deliveries: Sequence[Delivery[E]]) -> None:
        was_silent = False
        for delivery in deliveries:
            error = await self._send_alone(delivery)
            is_silent = isinstance(error, NoAnswerError)
            if is_silent and was_silent:
                raise SinkError(str(error))
            was_silent = is_silent

    async def _send_alone(self, delivery: Delivery[E]) -> ReceiverFailedError | None:
        """Says how the receiver has failed, if it has."""
        try:
            await self._send([delivery])
        except EventsRefusedError as error:
            self._refuse(delivery, error)
        except ReceiverFailedError as error:
            if len(self._suspects) == SUSPECTS:  # Of what was given up one is not told.
                self._suspects.clear()
            self._suspects.add(_identity(delivery))
            self.inbox.reject(delivery, error)
            return error
        else:
            self._suspects.discard(_identity(delivery))
            self._refused = 0
            self._accept([delivery])
        return None

    def _accept(self, deliveries: Sequence[Delivery[E]]) -> None:
        for delivery in deliveries:
            self.inbox.accept(delivery)

    def _refuse(self, delivery: Delivery[E], error: EventsRefusedError) -> None:
        self.inbox.reject(delivery, error)
        self._refused += 1
        if self._refused >= MANY:
            self.degrade(f"{MANY} events on end, or more, were refused")

    async def _send(self, deliveries: Sequence[Delivery[E]]) -> None:
        while self._not_before > trio.current_time():  # noqa: ASYNC110 - others may move it
            await trio.sleep_until(self._not_before)
        try:
            answer = await self.send(deliveries)
        except trio.TooSlowError:
            raise self.trouble(f"no answer within {self.timeout:g} s", NoAnswerError) from None
        except httpx.HTTPError as cause:
            told = shown(words(cause), self.secrets_of_settings())
            kind = SinkError if isinstance(cause, httpx.ConnectError) else NoAnswerError
            raise self.trouble(f"no answer: {told}", kind) from None  # Its text may have secrets.
        if answer is not None:
            self._heed(answer)

    def _heed(self, answer: Answer) -> None:
        """Raise where events were not taken, and say how the receiver is."""
        if answer.status in self.good:
            self._answered = 0
            self.recover()
            return
        said = self.said(answer)
        # With a time after which to try again it is not about the events.
        if answer.status in ABOUT_THE_EVENTS and answer.retry_after is None:
            self._answered = 0
            if self._refused < MANY:
                self.recover()  # It is there, and takes others.
            raise EventsRefusedError(said)
        if answer.status != self._answered:  # What it adds may be another each time.
            self.degrade(said)
            self._answered = answer.status
        if answer.retry_after is not None:
            until = trio.current_time() + min(answer.retry_after, LONGEST_PAUSE)
            self._not_before = max(self._not_before, until)
        if answer.status == GONE:
            raise SinkRefusedError(said)
        if answer.status == FAILED:
            raise ReceiverFailedError(said)
        raise SinkError(said)

    def trouble(self, reason: str, kind: type[SinkError] = SinkError) -> SinkError:
        """Be in trouble; returns what to raise for the events that it befell."""
        self._answered = 0
        self.degrade(reason)
        return kind(reason)

    def said(self, answer: Answer) -> str:
        """An answer that was no good one, for logs."""
        settings, reason = self.to_blame(answer.status), answer.reason
        reason = shown(reason, self.secrets_of_settings())
        see = f" (see {settings} of {self.name!r})" if settings else ""
        return f"{self.receiver} answered {answer.status}{see}{': ' if reason else ''}{reason}"


def _identity(delivery: Delivery[Event]) -> tuple[str, str]:
    """By what an event is known when it comes again."""
    return delivery.source, delivery.id
