"""The sink that all HTTP connectors share: a request for some events, and the answer's meaning.

Owns the promise: an event ends with a good answer, an event that is refused costs no other event,
and without an answer the events are tried again as the delivery's `retry…` settings say.
Never knows the form of a request, nor the server.
"""

from __future__ import annotations

import math
import ssl
from abc import abstractmethod
from collections.abc import Container, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, TypeVar

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

from .._error_text import describe
from ._answers import Answer, redacted, ssl_context

E = TypeVar("E", bound=Event)

ABOUT_THE_EVENTS = frozenset({400, 406, 409, 411, 413, 415, 422})
"""Statuses that are about the events, and not about the receiver. Every other bad status is about
the receiver or the settings, and may change in a while."""
GONE = 410
"""The status of a receiver that will never want anything again."""
FAILED = 500
"""The status of a receiver that has failed itself, perhaps because of one of the events."""
REFUSED_IN_A_ROW = 10
"""Refused events in a row after which the receiver, and not the events, is in trouble."""
SUSPECTS = 1000
"""Events that are remembered as having failed alone."""
LONGEST_PAUSE = 3600.0
"""Seconds of a pause that a receiver asks for, at most."""


class SinkError(TrivetError):
    """The receiver has not taken the events, and may take them later."""


class SinkRefusedError(SinkError, PermanentError):
    """The receiver will not take the events, however often they are sent."""


class EventsRefusedError(SinkRefusedError):
    """The receiver refuses one of the events, or their number, and not the sender."""


class ReceiverFailedError(SinkError):
    """The receiver has failed, perhaps because of one of the events."""


class NoAnswerError(ReceiverFailedError):
    """The receiver has not answered."""


def is_http_url(_plugin: object, _field: attrs.Attribute[Any], value: str) -> None:
    """Refuse a text that is no URL of HTTP; the message does not show the text."""
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        raise ValueError("not a URL") from None
    if url.scheme not in ("http", "https") or not url.host or (url.port or 1) > 65535:
        raise ValueError("an http or https URL is needed, such as 'https://example.org/events'")


def is_readable(_plugin: object, _field: attrs.Attribute[Path | None], value: Path | None) -> None:
    """Refuse a file without certificates."""
    if value is None:
        return
    try:
        ssl_context(value)
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
    """The statuses with which events are taken."""
    receiver: ClassVar[str] = "the receiver"
    """The receiver's name in logs."""

    _not_before: float = -math.inf
    """The time before which the receiver wants no request."""
    _bad_status: int = 0
    """The bad status that the receiver answered last; 0 after a good one."""
    _refused: int = 0
    """Events that the receiver has refused since it last took one."""
    _suspects: set[tuple[str, str]] = attrs.field(factory=set[tuple[str, str]])
    """Events at which the receiver failed although they were sent alone."""

    @abstractmethod
    async def send(self, deliveries: Sequence[Delivery[E]]) -> Answer | None:
        """Send events as one request; None if there was nothing to send.

        Raises:
            EventsRefusedError: one of the events cannot be written.
            SinkError: the events cannot be sent now.
            httpx.HTTPError: there was no answer.
            trio.TooSlowError: there was no answer within `timeout`.
        """

    @abstractmethod
    def suspected_settings(self, status: int) -> str:
        """The settings that a bad status is about, such as `url`; an empty text if unknown."""

    @abstractmethod
    def secrets_of_settings(self) -> Iterable[str]:
        """Texts that no log may show, and that the receiver might repeat."""

    async def handle_batch(self, events: Batch[E]) -> None:
        """Send some events. Refused events are found by halving the batch, and rejected alone.

        If the receiver fails at a batch a second time, or does not answer, the events are sent one
        by one: a single event may be the cause. An event at which the receiver fails alone is sent
        alone from then on. After two events in a row without an answer the others are not sent.

        Raises:
            SinkError: the receiver has not taken all events.
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
                if parts:  # These may fail. Without any, the end of the batch accepts the rest.
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
        """Send one event; returns how the receiver has failed, if it has."""
        try:
            await self._send([delivery])
        except EventsRefusedError as error:
            self._refuse(delivery, error)
        except ReceiverFailedError as error:
            if len(self._suspects) == SUSPECTS:  # No sink hears which of them ended elsewhere.
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
        if self._refused >= REFUSED_IN_A_ROW:
            self.degrade(f"{REFUSED_IN_A_ROW} events in a row, or more, were refused")

    async def _send(self, deliveries: Sequence[Delivery[E]]) -> None:
        while self._not_before > trio.current_time():  # noqa: ASYNC110 - others may move it
            await trio.sleep_until(self._not_before)
        try:
            answer = await self.send(deliveries)
        except trio.TooSlowError:
            raise self.degrade_for(f"no answer within {self.timeout:g} s", NoAnswerError) from None
        except httpx.HTTPError as cause:
            reason = redacted(describe(cause), self.secrets_of_settings())
            kind = SinkError if isinstance(cause, httpx.ConnectError) else NoAnswerError
            # The text of the cause may hold secrets.
            raise self.degrade_for(f"no answer: {reason}", kind) from None
        if answer is not None:
            self._handle(answer)

    def _handle(self, answer: Answer) -> None:
        """Raise if events were not taken, and update the plugin's status."""
        if answer.status in self.good:
            self._bad_status = 0
            self.recover()
            return
        reason = self.text_of(answer)
        # An answer with a time to try again is not about the events.
        if answer.status in ABOUT_THE_EVENTS and answer.retry_after is None:
            self._bad_status = 0
            if self._refused < REFUSED_IN_A_ROW:
                self.recover()  # The receiver works, and takes other events.
            raise EventsRefusedError(reason)
        if answer.status != self._bad_status:  # The words may differ each time.
            self.degrade(reason)
            self._bad_status = answer.status
        if answer.retry_after is not None:
            until = trio.current_time() + min(answer.retry_after, LONGEST_PAUSE)
            self._not_before = max(self._not_before, until)
        if answer.status == GONE:
            raise SinkRefusedError(reason)
        if answer.status == FAILED:
            raise ReceiverFailedError(reason)
        raise SinkError(reason)

    def degrade_for(self, reason: str, kind: type[SinkError] = SinkError) -> SinkError:
        """Degrade the plugin; returns the error to raise for the events that were being sent."""
        self._bad_status = 0
        self.degrade(reason)
        return kind(reason)

    def text_of(self, answer: Answer) -> str:
        """A bad answer in one line, for logs."""
        settings, reason = self.suspected_settings(answer.status), answer.reason
        reason = redacted(reason, self.secrets_of_settings())
        see = f" (see {settings} of {self.name!r})" if settings else ""
        return f"{self.receiver} answered {answer.status}{see}{': ' if reason else ''}{reason}"


def _identity(delivery: Delivery[Event]) -> tuple[str, str]:
    """The key by which an event is recognized when it comes again."""
    return delivery.source, delivery.id
