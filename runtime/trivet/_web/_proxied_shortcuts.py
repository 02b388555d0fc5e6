"""The shortcuts of a program behind proxies.

Owns which requests through a proxy take the short way of the same request without one, and the
facts about the client that it gets then.
Never knows how a proxy's headers are read, nor what a shortcut does.
"""

from __future__ import annotations

from collections.abc import Callable

from ._asgi import HttpScope
from ._begun import Begun
from ._proxies import Proxies
from ._shortcuts import Answer, RequestHead, Shortcut


class ProxiedShortcut:
    """See `Shortcut`.

    Args:
        shortcut: the shortcut of the same request from the client itself.
        proxies: the proxies of the program.
        head: the request's.
    """

    __slots__ = ("_address", "_is_simple", "_proxies", "_shortcut", "length")

    def __init__(self, shortcut: Shortcut, proxies: Proxies, head: RequestHead) -> None:
        self.length = shortcut.length
        self._shortcut = shortcut
        self._proxies = proxies
        said = proxies.said("http", head.headers)
        client, headers = said.get("client"), said.get("headers")
        self._address: str | None = None if client is None else client[0]
        # Another host than the one that the proxy has named is looked up by the layers.
        self._is_simple = headers is None or headers[0] == (b"host", head.get(b"host"))

    def answer(
        self, body: bytes, address: str, scope: Callable[[], HttpScope]
    ) -> Answer | Begun | None:
        """See `Shortcut`."""
        if not self._proxies.trusts(address):
            return self._shortcut.answer(body, address, scope)
        if not self._is_simple:
            return None
        client = address if self._address is None else self._address
        return self._shortcut.answer(body, client, lambda: self._proxies.original(scope()))
