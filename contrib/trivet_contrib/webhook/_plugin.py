"""The webhook as a plugin: every event becomes a CloudEvent.

Owns the settings.
Never knows bytes and connections, nor the meaning of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from ipaddress import ip_network

import attrs
import trio
from attrs.validators import deep_iterable

from trivet import Delivery, DeliverySettings, Event, Secret, WrongSettingError

from .._documents import UnwritableError, document
from .._http._answers import Answer, basic_credentials
from .._http._sink import EventsRefusedError, HttpSink, is_http_url
from .._turns import LARGE, Turns, off_loop
from ._addresses import AddressRefusedError
from ._client import WebhookClient, open_client
from ._signature import secret_key

NOT_ALLOWED = "and not within `allowed_networks`"
RESERVED = r"(content|webhook)-.*|host|connection|transfer-encoding"
"""Headers that an operator may not set."""


def _are_headers(
    _plugin: object, _field: attrs.Attribute[dict[str, Secret]], value: dict[str, Secret]
) -> None:
    for name, text in value.items():
        # The server would refuse the header, and its refusal would show the value.
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{name!r} is not the name of a header")
        if re.fullmatch(RESERVED, name, re.IGNORECASE):
            raise ValueError(f"{name!r} is set by the webhook itself")
        if not re.fullmatch(r"([\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?)?", text.reveal()):
            raise ValueError(
                f"the value of {name!r} cannot stand in a header: it has a character beyond ASCII,"
                " or a blank at an end"
            )


def _is_url(plugin: object, field: attrs.Attribute[Secret], value: Secret) -> None:
    is_http_url(plugin, field, value.reveal())


def _is_key(_plugin: object, _field: attrs.Attribute[Secret], value: Secret) -> None:
    secret_key(value.reveal())


def _is_network(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    ip_network(value)


class Webhook(HttpSink[Event]):
    """Posts events to a URL, one by one or in batches.

    A webhook listens to every type of event: `events` in `[plugins.webhook.delivery]` chooses among
    them. With a `batch_size` above 1 each request is an array of events; otherwise it is one event.
    """

    delivery = DeliverySettings(batch_size=1).over(HttpSink.delivery)

    url: Secret = attrs.field(validator=_is_url)
    """The URL to post to. It may hold a secret, so no message shows it."""
    headers: dict[str, Secret] = attrs.field(factory=dict[str, Secret], validator=_are_headers)
    """Headers to send with each request, such as `Authorization`."""
    secrets: list[Secret] = attrs.field(factory=list[Secret], validator=deep_iterable(_is_key))
    """Secrets to sign requests with, as in Standard Webhooks. While a secret is being replaced,
    list the new one and the old one."""
    allowed_networks: list[str] = attrs.field(
        factory=list[str], validator=deep_iterable(_is_network)
    )
    """Networks, such as `"10.1.0.0/16"`, that may be posted to although they are not public."""

    _client: WebhookClient

    async def initialize(self) -> None:
        """Make the client. Nothing is posted, so the receiver may start later.

        Raises:
            WrongSettingError: the URL's host has no address that may be posted to.
        """
        opened = open_client(
            self.url.reveal(),
            timeout=self.timeout,
            headers={name: value.reveal() for name, value in self.headers.items()},
            keys=[secret_key(secret.reveal()) for secret in self.secrets],
            allowed=[ip_network(network) for network in self.allowed_networks],
            ca_file=self.ca_file,
        )
        self._client = await self.enter(opened)
        with trio.move_on_after(self.timeout):
            try:
                await self._client.check()
            except AddressRefusedError as error:
                raise WrongSettingError("url", f"{error}, {NOT_ALLOWED}") from None

    async def send(self, deliveries: Sequence[Delivery[Event]]) -> Answer:
        """See `HttpSink`."""
        try:
            documents = await self._documents(deliveries)
        except UnwritableError as error:
            raise EventsRefusedError(str(error)) from None
        identity = (part for each in deliveries for part in (each.source, each.id))
        try:
            if self.inbox.policy.batch_size == 1:
                traceparent = deliveries[0].traceparent
                return await self._client.post(documents[0], identity, traceparent)
            return await self._client.post_batch(documents, identity)
        except AddressRefusedError as error:
            raise self.degrade_for(f"{error}, {NOT_ALLOWED}") from None

    async def _documents(self, deliveries: Sequence[Delivery[Event]]) -> list[bytes]:
        documents: list[bytes] = []
        turns = Turns()
        for delivery in deliveries:
            if turns.is_over():
                await turns.next()
            if delivery.size > LARGE:
                documents.append(await off_loop(delivery.size, partial(document, delivery)))
            else:
                documents.append(document(delivery))
        return documents

    def suspected_settings(self, status: int) -> str:
        """See `HttpSink`."""
        if status in (401, 403):
            return "`headers` and `secrets`"
        return "`url`" if status in (404, 405, 410) or 300 <= status <= 399 else ""

    def secrets_of_settings(self) -> Iterable[str]:
        """See `HttpSink`: the parts of headers and URL, without the host and without mere words."""
        for value in map(Secret.reveal, self.headers.values()):
            yield from (
                value,
                *value.split()[-1:],
                *_without_words(re.split(r"[\s=;,:\"]+", value)),
            )
        url = self._client.url
        yield from (url.username, url.password, basic_credentials(url.username, url.password))
        path, _, query = url.raw_path.decode().partition("?")
        yield from _without_words(path.split("/"))
        yield from re.split(r"[&=]", query)


def _without_words(parts: Iterable[str]) -> Iterable[str]:
    """The parts that are not mere words, such as `events` and `Bearer`."""
    return (part for part in parts if not re.fullmatch(r"[A-Za-z_.-]{0,15}", part))
