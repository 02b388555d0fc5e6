"""Hosts and sites: the names under which a service may be asked, and the pages that may ask it.

Owns which addresses only this machine reaches, which hosts are the service's, and when a request
comes from another site's page.
Never knows tokens, nor what a request asks for.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
"""An address of either version."""

MAX_CACHED = 256
"""Hosts whose check is cached."""
_ENTRY = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def as_address(host: str) -> IPAddress | None:
    """The address of a text, without its interface; None for another text.

    An address of IPv6 that stands for one of IPv4, as on a socket for both, is the latter.

    >>> as_address("::ffff:192.0.2.7"), as_address("fe80::1%eth0"), as_address("localhost")
    (IPv4Address('192.0.2.7'), IPv6Address('fe80::1'), None)
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's loopback, which no other machine reaches.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost")
    (True, True, True)
    >>> is_loopback("0.0.0.0"), is_loopback("127.0.0.1.example.org")
    (False, False)
    """
    address = as_address(host)
    return host == "localhost" if address is None else address.is_loopback


def name_of(host: str) -> str:
    """The name or the address in a `Host`, an origin or a bind, without its port.

    >>> name_of("Shop.Example.:8080"), name_of("[::1]:80"), name_of("")
    ('shop.example', '::1', '')
    """
    host = host.strip(" \t").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def canonical(host: str) -> str:
    """The one spelling of a name, or of an address with its several ones.

    >>> canonical("Shop.Example"), canonical("2001:DB8:0::1"), canonical("::ffff:192.0.2.7")
    ('shop.example', '2001:db8::1', '192.0.2.7')
    """
    address = as_address(host)
    return host.lower() if address is None else str(address)


def is_unix(bind: str) -> bool:
    """Whether a bind is a Unix socket, `unix:PATH`."""
    return bind.startswith("unix:")


def is_local(bind: str) -> bool:
    """Whether only this machine reaches a bind, `HOST:PORT` or `unix:PATH`.

    >>> is_local("127.0.0.1:8080"), is_local("unix:/run/trivet"), is_local("[::]:8080")
    (True, True, False)
    """
    return is_unix(bind) or is_loopback(name_of(bind))


def check_allowed_host(entry: str) -> None:
    """Refuse an entry of `allowed_hosts` that no `Host` can match.

    Raises:
        ValueError: it is neither a name nor an address.
    """
    if not _ENTRY.fullmatch(entry) and as_address(entry) is None:
        raise ValueError(
            "expected names and addresses without scheme and port, such as trivet.example.org or "
            "*.example.org"
        )


class Hosts:
    """The hosts under which a service may be asked.

    A page of anybody's can lead its own name to this machine, and then counts as the service's own
    page: only the host that it names shows whose it is.

    Args:
        own: names and addresses besides those of loopback; `*.NAME` stands for all names below.
    """

    def __init__(self, own: Iterable[str]) -> None:
        names = {canonical(each) for each in own}
        self._own = frozenset(names)
        self._below = tuple(each[1:] for each in names if each.startswith("*."))
        self._has = lru_cache(MAX_CACHED)(self._look_up)

    def allow(self, host: bytes, server: str) -> bool:
        """Whether a request may name a host.

        Args:
            host: the value of the header `Host`; empty where there is none.
            server: the address of this machine that the client has reached.
        """
        return self._has(host, server)

    def __contains__(self, name: str) -> bool:
        return name in self._own or name.endswith(self._below)

    def _look_up(self, host: bytes, server: str) -> bool:
        name = canonical(name_of(host.decode("latin-1")))
        return bool(name) and (is_loopback(name) or name == canonical(server) or name in self)


def is_cross_site(site: bytes, origin: bytes, host: bytes, hosts: Hosts) -> bool:
    """Whether a request comes from a page of another site.

    A client that is no browser sends neither header, and has no page.

    Args:
        site: the value of `Sec-Fetch-Site`, which browsers send, and no page can change.
        origin: the value of `Origin`, for older browsers.
        host: the value of `Host`.
        hosts: the hosts whose pages are the service's, at whichever port.
    """
    if site:
        return site not in (b"same-origin", b"none")
    if not origin:
        return False
    authority = origin.partition(b"://")[2].lower()
    if not authority:
        return True  # `null`: of a page without an origin.
    named = canonical(name_of(authority.decode("latin-1")))
    return authority != host.strip(b" \t").lower() and named not in hosts
