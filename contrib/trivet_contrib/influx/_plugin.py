"""InfluxDB as a plugin: monitoring points become lines in it.

Owns the settings, and what an answer means for the events of a batch.
Never knows bytes and connections; those are the client's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio
from attrs.validators import gt, min_len, optional

from trivet import (
    Batch,
    BatchPlugin,
    Delivery,
    DeliverySettings,
    MonitoringEvent,
    PermanentError,
    RetryAfter,
    TrivetError,
)

from ._client import Answer, InfluxClient, Target, open_client, version_1, version_2
from ._lines import PointError


class InfluxError(TrivetError):
    """InfluxDB did not take points, and may take them another time."""


class InfluxRefusedError(InfluxError, PermanentError):
    """InfluxDB will not take these points, however often they are written."""


class _PointsRefusedError(InfluxRefusedError):
    """It is one of the points, and not who writes them, or where."""


def _is_http_url(_plugin: object, _field: attrs.Attribute[str], value: str) -> None:
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise ValueError("not a URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("an http or https URL is needed, such as 'http://127.0.0.1:8086'")
    if url.userinfo or url.query:
        raise ValueError("who writes is said by `token`, or by `username` and `password`")


def _is_one_of_two(plugin: Any, _field: attrs.Attribute[str | None], value: str | None) -> None:
    if value == "":
        raise ValueError("a bucket has a name")
    if (value is None) == (plugin.database is None):
        raise ValueError("either this is needed, for the API of version 2, or `database`")


def _can_stand_in_a_header(
    _plugin: object, _field: attrs.Attribute[str | None], value: str | None
) -> None:
    if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("a token has no spaces in it, nor anything that is not ASCII")


def _has_no_colon(_plugin: object, _field: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and ":" in value:
        raise ValueError("a user's name has no ':' in it")


class Influx(BatchPlugin[MonitoringEvent]):
    """Writes the service's monitoring points into InfluxDB, a request a batch."""

    delivery = DeliverySettings(time_limit=0)  # `timeout` is the limit of each request.

    url: str = attrs.field(validator=_is_http_url)
    """The server's, such as `http://127.0.0.1:8086`."""
    bucket: str | None = attrs.field(default=None, validator=_is_one_of_two)
    """What to write into, by the API of version 2."""
    org: str | None = None
    """The organization that has the bucket."""
    token: str | None = attrs.field(default=None, validator=_can_stand_in_a_header, repr=False)
    """Who writes."""
    database: str | None = attrs.field(default=None, validator=optional(min_len(1)))
    """What to write into, by the API of version 1."""
    retention_policy: str | None = None
    """Of the database; its default one otherwise."""
    username: str | None = attrs.field(default=None, validator=_has_no_colon)
    """Who writes into the database."""
    password: str | None = attrs.field(default=None, repr=False)
    """The user's."""
    tags: dict[str, str] = attrs.field(factory=dict[str, str])
    """Tags of each point that does not have its own of that name, such as the host's name."""
    gzip: bool = True
    """Whether requests are compressed."""
    timeout: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds for one request, from the connection to the end of the answer."""
    ca_file: Path | None = None
    """Certificates of the authorities to trust instead of the usual ones, as PEM."""

    _client: InfluxClient

    async def initialize(self) -> None:
        """Make the client. Nothing is written, so the server may start later than this."""
        opened = open_client(
            self.url, self._target(), tags=self.tags, compressed=self.gzip, ca_file=self.ca_file
        )
        self._client = await self.enter(opened)

    def _target(self) -> Target:
        if self.bucket is not None:
            return version_2(self.bucket, org=self.org, token=self.token)
        assert self.database is not None
        return version_1(
            self.database,
            retention_policy=self.retention_policy,
            username=self.username,
            password=self.password,
        )

    async def handle_batch(self, events: Batch[MonitoringEvent]) -> None:
        """Write the points of some events. What InfluxDB refuses is found, and costs nobody else.

        To write a point twice leaves one, so what was written before a failure does no harm.

        Raises:
            InfluxError: InfluxDB did not take them.
            RetryAfter: the same, and it said when it may.
        """
        await self._write(events.deliveries)

    async def _write(self, deliveries: Sequence[Delivery[MonitoringEvent]]) -> None:
        try:
            await self._send(deliveries)
        except _PointsRefusedError as error:
            if len(deliveries) == 1:
                self.inbox.reject(deliveries[0], error)
                return
            middle = len(deliveries) // 2
            await self._write(deliveries[:middle])
            await self._write(deliveries[middle:])
            return
        for delivery in deliveries:
            self.inbox.accept(delivery)

    async def _send(self, deliveries: Sequence[Delivery[MonitoringEvent]]) -> None:
        points = [point for delivery in deliveries for point in delivery.event.points]
        if not points:
            return
        try:
            with trio.fail_after(self.timeout):
                answer = await self._client.write(points)
        except trio.TooSlowError:
            error = InfluxError(f"no answer within {self.timeout:g} s")
            self.degrade(str(error))
            raise error from None
        except httpx.HTTPError as cause:
            error = InfluxError(f"no answer: {type(cause).__name__}: {cause}")
            self.degrade(str(error))
            raise error from cause
        except PointError as cause:
            raise _PointsRefusedError(str(cause)) from None
        fault = self._fault_of(answer)
        if isinstance(fault, _PointsRefusedError):
            raise fault
        if fault is not None:
            self.degrade(f"InfluxDB answered {answer.status}")
            raise fault
        self.recover()

    def _fault_of(self, answer: Answer) -> Exception | None:
        """What to raise for an answer that does not say that the points were taken."""
        if 200 <= answer.status <= 299:
            return None
        said = f"InfluxDB answered {answer.status}"
        if answer.reason:
            said = f"{said}: {self._masked(answer.reason)}"
        if answer.status in _ABOUT_THE_POINTS:
            return _PointsRefusedError(said)
        if answer.status < 500 and answer.status not in _WORTH_ANOTHER_TRY:
            settings = _SETTINGS.get(answer.status, ("url",) * 2)[self.bucket is None]
            return InfluxRefusedError(f"{said} (see `{settings}` of {self.name!r})")
        if answer.retry_after is not None:
            return RetryAfter(answer.retry_after, said)
        return InfluxError(said)

    def _masked(self, text: str) -> str:
        for secret in (self.token, self.password):
            if secret:
                text = text.replace(secret, "…")
        return text


_ABOUT_THE_POINTS = (400, 413, 422)
"""Answers that say something about the points, one of them perhaps, or about how many they are."""
_WORTH_ANOTHER_TRY = (408, 425, 429)
"""Answers below 500 that may be others another time."""
_SETTINGS = {
    401: ("token", "username` and `password"),
    403: ("token", "username` and `password"),
    404: ("bucket` and `org", "database"),
}
"""By answer, the settings that lead to it, of version 2 and of version 1."""
