"""A request that came through a proxy, as its client sent it.

Owns whose headers count, and the client, scheme, host and path that follow from them.
Never knows what is done with these facts, and changes nothing in a request of anybody else's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar, cast

import attrs

from .._access._hosts import as_address
from .._program._addresses import UNIX
from .._program._settings import Settings
from ._asgi import Headers, HttpScope, WebsocketScope

_Scope = HttpScope | WebsocketScope
S = TypeVar("S", bound=_Scope)

RECEIVED_HOST = "trivet.received_host"
"""The extension with the value of `Host` that came with a request, where a proxy's word for it
counts."""
LONGEST_CHAIN = 100
"""Proxies of which a header is read, from the nearest on."""
_NODE = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?")
"""A client in a header: an address of IPv4, or one of IPv6 in brackets, perhaps with a port."""


@attrs.frozen
class _Hop:
    """The facts that a proxy says about the request that it got; empty for none."""

    client: str = ""
    scheme: str = ""
    host: str = ""


class Proxies:
    """The proxies of a program, and the path below which they serve it.

    Args:
        settings: the operator's settings.
    """

    def __init__(self, settings: Settings) -> None:
        trusted = settings.trusted_proxies
        self._networks = [ipaddress.ip_network(each) for each in trusted if each != UNIX]
        self._trusts_unix = UNIX in trusted
        self._hops = _FORMS[settings.proxy_headers]
        self._root = settings.root_path
        self._trusts = lru_cache(maxsize=256)(self._is_trusted)

    @classmethod
    def of(cls, settings: Settings) -> Proxies | None:
        """The proxies; None if each request is taken as it comes."""
        return cls(settings) if settings.trusted_proxies or settings.root_path else None

    @property
    def has_root(self) -> bool:
        """Whether they serve the program below a path of its own."""
        return bool(self._root)

    def original(self, scope: S) -> S:
        """The scope as the client sent it, as far as trusted proxies say so."""
        given = cast("_Scope", scope)
        changed: dict[str, Any] = {}
        client = given.get("client")
        if self.trusts("" if client is None else client[0]):
            changed = self.said(given["type"], given["headers"], given.get("extensions") or {})
        if self._root and given["path"].startswith("/") and not given.get("root_path"):
            changed |= _below(self._root, given)
        return cast("S", {**scope, **changed}) if changed else scope

    def trusts(self, address: str) -> bool:
        """Whether the sender of a request is a proxy that is believed.

        Args:
            address: its address; empty on a Unix socket.
        """
        return self._trusts(address) if address else self._trusts_unix

    def _is_trusted(self, host: str) -> bool:
        address = as_address(host.strip("[]"))
        return address is not None and any(address in network for network in self._networks)

    def said(
        self, kind: str, headers: Headers, extensions: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """The keys of a scope that follow from the headers of the nearest proxy, which is trusted.

        A trusted proxy is believed about the sender of its request. If that is a trusted proxy,
        too, it is believed in turn; the first sender that is none is the client.
        """
        changed: dict[str, Any] = {}
        for hop in self._hops(headers):
            if hop.scheme in ("http", "https"):
                secure = "s" if hop.scheme == "https" else ""
                changed["scheme"] = ("http" if kind == "http" else "ws") + secure
            if hop.host:
                others = [item for item in headers if item[0] != b"host"]
                changed["headers"] = [(b"host", hop.host.encode("latin-1")), *others]
                received = b"".join(value for name, value in headers if name == b"host")
                changed["extensions"] = {**extensions, RECEIVED_HOST: received}
            node = _NODE.fullmatch(hop.client)
            host, port = (hop.client, None) if node is None else node.groups()
            address = as_address(host.strip("[]"))
            if address is None:
                break  # The proxy does not say it, or hides it.
            changed["client"] = (str(address), int(port or 0))
            if not self._trusts(host):
                break
        return changed


def _below(root: str, scope: _Scope) -> dict[str, Any]:
    """The root path, and the path with it, also where the proxy has taken it away."""
    path, raw = scope["path"], scope.get("raw_path")
    if path == root or path.startswith(f"{root}/"):
        return {"root_path": root}
    with_root = {"root_path": root, "path": f"{root}{path}"}
    return with_root if raw is None else {**with_root, "raw_path": root.encode("ascii") + raw}


def _entries(headers: Headers, name: bytes) -> list[str]:
    """The entries of a list in a header, the nearest proxy's first.

    It is taken apart from its end: no quote that a client has begun can swallow the entry of a
    proxy.
    """
    values = b",".join([value for key, value in headers if key == name])
    entries = values.decode("latin-1").rsplit(",", LONGEST_CHAIN)[-LONGEST_CHAIN:]
    return [entry.strip() for entry in reversed(entries)] if values else []


def _x_forwarded(headers: Headers) -> Iterator[_Hop]:
    """The hops in `X-Forwarded-For`, with the scheme and the host of `-Proto` and `-Host`.

    These may be lists of the same length; otherwise they are the nearest proxy's word.
    """
    clients = _entries(headers, b"x-forwarded-for") or [""]
    schemes = _entries(headers, b"x-forwarded-proto")
    hosts = _entries(headers, b"x-forwarded-host")
    for number, client in enumerate(clients):
        scheme, host = (
            said[number] if len(said) == len(clients) else said[0] if said and not number else ""
            for said in (schemes, hosts)
        )
        yield _Hop(client, scheme.lower(), host)


def _forwarded(headers: Headers) -> Iterator[_Hop]:
    """The hops in `Forwarded`, as RFC 7239 has it."""
    for entry in _entries(headers, b"forwarded"):
        pairs = (pair.partition("=") for pair in entry.split(";"))
        said = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        yield _Hop(said.get("for", ""), said.get("proto", "").lower(), said.get("host", ""))


_FORMS: dict[str, Callable[[Headers], Iterator[_Hop]]] = {
    "x-forwarded": _x_forwarded,
    "forwarded": _forwarded,
}
