"""Errors as HTTP clients see them: problem details as in RFC 9457.

Owns the one table of error codes, and the document that each of them becomes.
Never knows the web framework, nor which request went wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from .._faults._masking import mask_beginning

MEDIA_TYPE = "application/problem+json"
RETRY_WHEN_STOPPING = 5.0
"""Seconds after which a service that stops may be back."""

STATUS: Mapping[str, HTTPStatus] = {
    "malformed_request": HTTPStatus.BAD_REQUEST,
    "invalid_query": HTTPStatus.BAD_REQUEST,
    "invalid_patch": HTTPStatus.BAD_REQUEST,
    "invalid_event": HTTPStatus.BAD_REQUEST,
    "unacceptable_event": HTTPStatus.BAD_REQUEST,
    "invalid_cloud_event": HTTPStatus.BAD_REQUEST,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "cross_site": HTTPStatus.FORBIDDEN,
    "unknown_path": HTTPStatus.NOT_FOUND,
    "unknown_event": HTTPStatus.NOT_FOUND,
    "unknown_plugin": HTTPStatus.NOT_FOUND,
    "unknown_dead_letter": HTTPStatus.NOT_FOUND,
    "unknown_page": HTTPStatus.NOT_FOUND,
    "unknown_stall": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "upgrade_required": HTTPStatus.UPGRADE_REQUIRED,
    "order_refused": HTTPStatus.CONFLICT,
    "reload_refused": HTTPStatus.CONFLICT,
    "settings_refused": HTTPStatus.CONFLICT,
    "precondition_failed": HTTPStatus.PRECONDITION_FAILED,
    "precondition_required": HTTPStatus.PRECONDITION_REQUIRED,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "body_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "event_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "too_many_events": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "target_too_long": HTTPStatus.REQUEST_URI_TOO_LONG,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "wrong_host": HTTPStatus.MISDIRECTED_REQUEST,
    "too_many_attempts": HTTPStatus.TOO_MANY_REQUESTS,
    "too_many_requests": HTTPStatus.TOO_MANY_REQUESTS,
    "too_many_taps": HTTPStatus.TOO_MANY_REQUESTS,
    "not_accepted": HTTPStatus.TOO_MANY_REQUESTS,
    "head_too_large": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "page_failed": HTTPStatus.INTERNAL_SERVER_ERROR,
    "handler_failed": HTTPStatus.INTERNAL_SERVER_ERROR,
    "dead_lettered": HTTPStatus.INTERNAL_SERVER_ERROR,
    "not_implemented": HTTPStatus.NOT_IMPLEMENTED,
    "not_installed": HTTPStatus.NOT_IMPLEMENTED,
    "event_dropped": HTTPStatus.SERVICE_UNAVAILABLE,
    "event_abandoned": HTTPStatus.SERVICE_UNAVAILABLE,
    "plugin_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_connections": HTTPStatus.SERVICE_UNAVAILABLE,
    "stopping": HTTPStatus.SERVICE_UNAVAILABLE,
    "store_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "event_expired": HTTPStatus.GATEWAY_TIMEOUT,
    "version_not_supported": HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    "store_full": HTTPStatus.INSUFFICIENT_STORAGE,
}
"""Every `error_code` of Trivet's own, and its status. A plugin's route that
answers with an error status has the code `http_404`, or whatever the status is."""


class ProblemError(Exception):
    """A problem of a request, or of the service; to raise it answers the request with it.

    Args:
        error_code: a key of `STATUS`.
        detail: one sentence about this occurrence, for the reader of a log.
        facts: further members of the document.
        retry_after: seconds after which to try again; rounded up to whole ones.
        headers: further headers of the response.
    """

    def __init__(
        self,
        error_code: str,
        detail: str,
        facts: Mapping[str, object] | None = None,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.error_code = error_code
        self.status = STATUS[error_code]
        self.detail = detail
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        self.facts = dict(facts or {})

    def document(self) -> bytes:
        """The body of the response.

        >>> ProblemError("unknown_path", "nothing is at /tea", {"path": "/tea"}).document()
        b'{"title":"Not Found","status":404,...,"path":"/tea"}'
        """
        return document(self.status, self.detail, self.error_code, self.facts)


def stopping(facts: Mapping[str, object] | None = None) -> ProblemError:
    """The problem of a request that the stop has kept from being answered."""
    return ProblemError("stopping", "the service stops", facts, retry_after=RETRY_WHEN_STOPPING)


def document(status: int, detail: str, error_code: str, facts: dict[str, object]) -> bytes:
    """Problem details as JSON; the title is the status's phrase, as their type is about:blank."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"  # The author has invented the status.
    detail = mask_beginning(detail)  # It may repeat the text of an author's exception.
    members = {"title": title, "status": status, "detail": detail, "error_code": error_code}
    return msgspec.json.encode(members | facts)
