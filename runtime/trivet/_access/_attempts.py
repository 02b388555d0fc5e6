"""Wrong secrets, counted by the address that has sent them.

Owns when an address has sent too many of them, in bounded memory.
Never knows a secret, nor what a client that is slowed down is answered.
"""

from __future__ import annotations

import ipaddress

import trio

BURST = 10
"""Wrong secrets that an address may send before it is slowed down."""
INTERVAL = 5.0
"""Seconds after which an address that is slowed down may send one more."""
MAX_ADDRESSES = 4096
"""Addresses that are remembered; beyond this number the oldest are forgotten."""


class Attempts:
    """The wrong secrets of lately, by the network that they came from.

    An address that is slowed down learns nothing about a secret, not even whether the right one is
    right. A token that came from the address before goes on working there: where a proxy gives all
    clients one address, one that guesses does not shut the others out.
    """

    def __init__(self) -> None:
        self._wrong: dict[str, tuple[float, float]] = {}
        """For each network the number of wrong secrets, which falls with time, and its moment."""
        self._known: dict[tuple[str, str], None] = {}

    def wait(self, address: str) -> float:
        """Seconds until the address may send another secret; 0 for at once."""
        if not self._wrong:
            return 0.0
        count = self._count(network_of(address))
        return max(0.0, (count - BURST + 1) * INTERVAL)

    def failed(self, address: str) -> None:
        """Count a wrong secret."""
        network = network_of(address)
        count = self._count(network)
        self._wrong.pop(network, None)  # The oldest is the first one.
        self._wrong[network] = (count + 1, trio.current_time())
        if len(self._wrong) > MAX_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]

    def succeeded(self, address: str, token: str) -> None:
        """Remember that a token came from an address."""
        if (address, token) in self._known:
            return
        self._known[address, token] = None
        if len(self._known) > MAX_ADDRESSES:
            del self._known[next(iter(self._known))]

    def knows(self, address: str, token: str) -> bool:
        """Whether a token came from an address before."""
        return (address, token) in self._known

    def _count(self, network: str) -> float:
        count, since = self._wrong.get(network, (0.0, 0.0))
        return max(0.0, count - (trio.current_time() - since) / INTERVAL)


def network_of(address: str) -> str:
    """The network that one client may have: an address of IPv4, or 64 bits of IPv6.

    >>> network_of("192.0.2.1"), network_of("2001:db8::17"), network_of("")
    ('192.0.2.1', '2001:db8::/64', '')
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
