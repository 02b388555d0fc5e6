"""InfluxDB as a plugin: monitoring points become lines in it.

Owns the settings, and their trial at the start.
Never knows bytes and connections, nor the meaning of an answer for an event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import httpx
import trio
from attrs.validators import min_len, optional

from trivet import Delivery, MonitoringEvent, Secret, WrongSettingError

from .._error_text import describe
from .._http._answers import Answer, basic_credentials, redacted
from .._http._sink import ABOUT_THE_EVENTS, EventsRefusedError, HttpSink, is_http_url
from ._client import InfluxClient, Target, open_client, version_1, version_2


def _is_servers_url(plugin: object, field: attrs.Attribute[str], value: str) -> None:
    is_http_url(plugin, field, value)
    url = httpx.URL(value)
    if url.userinfo or url.query:
        raise ValueError("credentials belong in `token`, or in `username` and `password`")


def _is_one_of_two(plugin: Any, _field: attrs.Attribute[str | None], value: str | None) -> None:
    if value == "":
        raise ValueError("a bucket has a name")
    if (value is None) == (plugin.database is None):
        raise ValueError("set either this, for the API of version 2, or `database`, for version 1")


def _goes_with(other: str) -> Callable[[Any, attrs.Attribute[Any], object], None]:
    """A validator that refuses a setting without another one that it needs."""

    def check(plugin: Any, _field: attrs.Attribute[Any], value: object) -> None:
        if value is not None and getattr(plugin, other) is None:
            raise ValueError(f"it has no effect without `{other}`")

    return check


def _can_stand_in_a_header(
    _plugin: object, _field: attrs.Attribute[Secret | None], value: Secret | None
) -> None:
    if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value.reveal()):
        raise ValueError("a token has neither spaces nor characters beyond ASCII")


def _has_no_colon(_plugin: object, _field: attrs.Attribute[str | None], value: str | None) -> None:
    if value is not None and ":" in value:
        raise ValueError("a user's name has no ':' in it")


class Influx(HttpSink[MonitoringEvent]):
    """Writes the service's monitoring points into InfluxDB, one request for each batch.

    A point that is written twice is there once, so a retry does no harm.
    """

    good = (204,)  # Any other status comes from another server, or from a partial write.
    receiver = "InfluxDB"

    url: str = attrs.field(validator=_is_servers_url)
    """The URL of the server, such as `http://127.0.0.1:8086`."""
    bucket: str | None = attrs.field(default=None, validator=_is_one_of_two)
    """The bucket to write to, by the API of version 2."""
    org: str | None = attrs.field(default=None, validator=_goes_with("bucket"))
    """The organization of the bucket."""
    token: Secret | None = attrs.field(
        default=None, validator=[_goes_with("bucket"), _can_stand_in_a_header]
    )
    """The token for the bucket."""
    database: str | None = attrs.field(default=None, validator=optional(min_len(1)))
    """The database to write to, by the API of version 1."""
    retention_policy: str | None = attrs.field(default=None, validator=_goes_with("database"))
    """The retention policy to write to; by default the database's own."""
    username: str | None = attrs.field(
        default=None, validator=[_goes_with("database"), _has_no_colon]
    )
    """The user of the database."""
    password: Secret | None = attrs.field(default=None, validator=_goes_with("username"))
    """The password of the user."""
    tags: dict[str, str] = attrs.field(factory=dict[str, str])
    """Tags of each point, such as the host; a point's own tag of the same name goes first."""
    gzip: bool = True
    """Whether requests are compressed."""

    _client: InfluxClient

    async def initialize(self) -> None:
        """Find wrong settings. The server may become available later."""
        opened = open_client(
            self.url,
            self._target(),
            timeout=self.timeout,
            tags=self.tags,
            compressed=self.gzip,
            ca_file=self.ca_file,
        )
        self._client = await self.enter(opened)
        try:
            answer = await self._client.write(b"")
        except (httpx.HTTPError, trio.TooSlowError) as error:
            reason = redacted(describe(error), self.secrets_of_settings())
            self.degrade(f"InfluxDB is unavailable: {reason}")
            return
        if self.suspected_settings(answer.status):
            raise WrongSettingError(None, self.text_of(answer))

    def _target(self) -> Target:
        if self.bucket is not None:
            return version_2(self.bucket, org=self.org, token=_text_of(self.token))
        assert self.database is not None
        return version_1(
            self.database,
            retention_policy=self.retention_policy,
            username=self.username,
            password=_text_of(self.password),
        )

    async def send(self, deliveries: Sequence[Delivery[MonitoringEvent]]) -> Answer | None:
        """See `HttpSink`."""
        try:
            lines = self._client.lines_of(
                [point for delivery in deliveries for point in delivery.event.points]
            )
        except Exception as error:  # A point may be of an author's own class.
            raise EventsRefusedError(describe(error)) from None
        return await self._client.write(lines) if lines else None

    def suspected_settings(self, status: int) -> str:
        """See `HttpSink`."""
        if status in (401, 403):
            return "`username` and `password`" if self.bucket is None else "`token`"
        if status == 404:
            return "`url` and `database`" if self.bucket is None else "`url`, `bucket` and `org`"
        return "`url`" if 300 <= status <= 499 and status not in _FROM_INFLUXDB else ""

    def secrets_of_settings(self) -> Iterable[str]:
        """See `HttpSink`."""
        password = _text_of(self.password) or ""
        credentials = basic_credentials(self.username or "", password)
        return (_text_of(self.token) or "", password, credentials)


def _text_of(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


_FROM_INFLUXDB = ABOUT_THE_EVENTS | {408, 425, 429}
"""Statuses that InfluxDB may answer; every other refusal comes from another server."""
