"""The addresses that may be connected to, and connections to exactly the address that was checked.

Owns the check whether an address is public, and httpcore's network backend that makes it.
Never knows what is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import cast

import httpcore
import trio

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
SocketOption = (
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
)

FALL_BACK_AFTER = 2.0
"""Seconds for one address of a name, before the next one is tried."""

_TRANSLATED = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address.
_NOT_PUBLIC = [  # Networks that Python's own tables allow, in some version at least.
    ip_network("64:ff9b:1::/48"),  # RFC 8215: translated to any address.
    ip_network("100.64.0.0/10"),  # RFC 6598: shared by a provider and its customers.
    ip_network("192.0.0.0/24"),  # RFC 6890: assigned to protocols.
    ip_network("192.88.99.0/24"),  # RFC 7526: relays, abolished.
    ip_network("2001::/32"),  # RFC 4380: Teredo, with an IPv4 address inside.
    ip_network("2002::/16"),  # RFC 3056: 6to4, behind the abolished relays.
    ip_network("fec0::/10"),  # RFC 3879: site-local, abolished.
]


class AddressRefusedError(Exception):
    """The name of the receiver has no address that may be connected to."""


def is_public(address: Address) -> bool:
    """Whether an address, and an address inside it, belongs to the public Internet.

    >>> is_public(ip_address("9.9.9.9")), is_public(ip_address("::ffff:127.0.0.1"))
    (True, False)
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _TRANSLATED:
            return is_public(IPv4Address(address.packed[-4:]))
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
    )


def is_allowed(address: Address, allowed: Iterable[Network]) -> bool:
    """Whether an address is public, or in one of the allowed networks.

    >>> is_allowed(ip_address("::ffff:10.0.0.1"), [ip_network("10.0.0.0/8")])
    True
    """
    spellings: list[Address] = [address]
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        spellings.append(address.ipv4_mapped)
    named = any(each in network for each in spellings for network in allowed)
    return named or is_public(address)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """A backend that resolves a name, checks the addresses, and connects to a checked one.

    No second look-up comes in between, which could give another address. TLS still uses the name,
    so the certificate has to be for the name.

    Args:
        allowed: networks that may be connected to although they are not public.
    """

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)
        # Without trio httpcore has another class of this name.
        self._backend = cast("httpcore.AsyncNetworkBackend", httpcore.TrioBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that is allowed and answers.

        Raises:
            AddressRefusedError: no address is allowed.
            httpcore.ConnectError: no address answers, or the name has none.
        """
        *first, last = await self.check(host, port)
        for address in first:
            try:
                return await self._backend.connect_tcp(
                    address, port, FALL_BACK_AFTER, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._backend.connect_tcp(last, port, timeout, local_address, socket_options)

    async def check(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to.

        Raises:
            AddressRefusedError: none of the addresses is allowed.
            httpcore.ConnectError: the name has no address.
        """
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        allowed = [each for each in addresses if is_allowed(ip_address(each), self._allowed)]
        if not allowed:
            raise AddressRefusedError(f"{', '.join(addresses)}: not a public address")
        return allowed

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts."""
        await self._backend.sleep(seconds)
