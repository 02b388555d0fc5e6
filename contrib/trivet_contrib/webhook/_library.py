"""The one door to httpx's inside: a transport over connections to addresses that were checked.

Owns the list of the names of httpx that are used although httpx does not document them.
Never knows what is sent.
"""

from __future__ import annotations

import ssl

import httpcore
import httpx

from ._addresses import CheckedBackend

INSIDE = {"httpx:AsyncHTTPTransport._pool": "attribute"}
"""The undocumented names that are used here, each with the signature that is counted on."""


class CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport, with a network backend that checks each address."""

    def __init__(self, trust: ssl.SSLContext, backend: CheckedBackend) -> None:
        super().__init__(verify=trust)
        # httpx has no argument for a network backend.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust,
            max_connections=None,  # As many as there are handlers.
            keepalive_expiry=5.0,
            network_backend=backend,
        )
