"""Wrong secrets, by address."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trivet._access._attempts import BURST, INTERVAL, MAX_ADDRESSES, Attempts

HERE, THERE = "192.0.2.1", "192.0.2.2"


async def test_an_address_that_guesses_is_slowed_down(autojump_clock: MockClock) -> None:
    """After ten wrong secrets an address may send one in five seconds; others are not concerned."""
    attempts = Attempts()
    for _ in range(BURST):
        assert attempts.wait(HERE) == 0
        attempts.failed(HERE)
    for _ in range(5):
        assert attempts.wait(HERE) == pytest.approx(INTERVAL)
        assert attempts.wait(THERE) == 0
        await trio.sleep(attempts.wait(HERE))
        assert attempts.wait(HERE) == 0
        attempts.failed(HERE)
    await trio.sleep(BURST * INTERVAL)
    assert attempts.wait(HERE) == 0


async def test_the_networks_of_ipv6(autojump_clock: MockClock) -> None:
    """The addresses that one client of IPv6 may have are slowed down together."""
    attempts = Attempts()
    for number in range(BURST):
        attempts.failed(f"2001:db8::{number}")
    assert attempts.wait("2001:db8::abcd:1") > 0
    assert attempts.wait("2001:db8:0:1::1") == 0
    assert attempts.wait("fe80::1%eth0") == 0


async def test_a_token_that_is_known_from_an_address(autojump_clock: MockClock) -> None:
    """A token is known where it came from, and nowhere else."""
    attempts = Attempts()
    attempts.succeeded(HERE, "shop")
    attempts.succeeded(HERE, "shop")
    assert attempts.knows(HERE, "shop")
    assert not attempts.knows(THERE, "shop")
    assert not attempts.knows(HERE, "ops")


async def test_memory_is_bounded(autojump_clock: MockClock) -> None:
    """The oldest of many addresses are forgotten."""
    attempts: Any = Attempts()
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(2 * MAX_ADDRESSES)]
    for address in addresses:
        attempts.failed(address)
        attempts.succeeded(address, "shop")
    assert len(attempts._wrong) == len(attempts._known) == MAX_ADDRESSES
    assert not attempts.knows(addresses[0], "shop")
    assert attempts.knows(addresses[-1], "shop")
