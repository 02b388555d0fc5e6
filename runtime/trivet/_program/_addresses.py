"""The forms of addresses in the settings: of listeners, of hosts, of proxies.

Owns the words that an address may be, and the refusal of another.
Never knows which setting an address stands in.
"""

from __future__ import annotations

import ipaddress
import re

from .._access._hosts import check_allowed_host

SYSTEMD = "systemd"
"""The word for the sockets that systemd has bound; a colon and the name of some may follow."""


def is_of_systemd(address: str) -> bool:
    """Whether an address stands for sockets of systemd's."""
    return address == SYSTEMD or address.startswith(f"{SYSTEMD}:")


def split(bind: str | list[str]) -> list[str]:
    """The addresses of a `bind`, one by one."""
    return [each.strip() for each in bind.split(",")] if isinstance(bind, str) else bind


def are_addresses(_: object, __: object, bind: str | list[str]) -> None:
    """Refuse what cannot be listened at; a validator, like those below."""
    addresses = split(bind)
    if not addresses:
        raise ValueError("names no address")
    for address in addresses:
        match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s\0:\[\]]+):(\d{1,5})", address)
        is_host = match is not None and match[0][:5] != "unix:" and int(match[1]) <= 65535
        if is_of_systemd(address):
            is_host = False
        if not is_host and not re.fullmatch(r"unix:/[^\0]+|systemd(:[!-9;-~]+)?", address):
            raise ValueError(
                "expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:0, unix:/PATH, or systemd, "
                f"not {address}"
            )
    if len(set(addresses)) < len(addresses):
        raise ValueError("names an address twice")


def are_hosts(_: object, __: object, hosts: list[str]) -> None:
    """Refuse what is no host, and no pattern of hosts."""
    for host in hosts:
        check_allowed_host(host)


UNIX = "unix"
"""The word for clients at Unix sockets, which have no address."""


def are_networks(_: object, __: object, proxies: list[str]) -> None:
    """Refuse what is no address of a proxy, and no network of them."""
    for proxy in proxies:
        try:
            if proxy != UNIX:
                ipaddress.ip_network(proxy)
        except ValueError:
            raise ValueError(
                f"expected an address, a network such as 10.0.0.0/8, or {UNIX}, not {proxy}"
            ) from None


def is_prefix(_: object, __: object, path: str) -> None:
    """Refuse what is no beginning of a path."""
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError("expected a path such as /trivet, without a `/` at its end")
