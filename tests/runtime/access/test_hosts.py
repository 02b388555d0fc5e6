"""The hosts of a service, and the sites whose pages may ask it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet import ConfigurationError, load_settings
from trivet._access._hosts import Hosts, is_cross_site, is_local, name_of

HERE = "192.0.2.7"
HOSTS = Hosts(
    ["2001:db8::8", "trivet.example.org", "*.below.example", "192.0.2.8", "Mixed.Example"]
)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:8080",
        "trivet.example.org",
        "Trivet.Example.ORG.:443",
        "mixed.example",
        "a.below.example",
        "a.b.below.example:1",
        "192.0.2.8",
        HERE,
        f"{HERE}:8080",
        f"[::ffff:{HERE}]",
        "[::ffff:7f00:1]:8080",
        "[2001:DB8:0::8]",
    ],
)
def test_a_host_of_the_service(host: str) -> None:
    """Loopback, the address that was reached, and the operator's hosts are the service's."""
    assert HOSTS.allow(host.encode(), HERE)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:127",
        "below.example",
        "evilbelow.example",
        "trivet.example.org.evil.example",
        "xtrivet.example.org",
        "2130706433",
        "0x7f.1",
        "192.0.2.9",
        "[2001:db8::1]",
        "0.0.0.0",
        "[::ffff:192.0.2.9]",
        "\xa0localhost",
    ],
)
def test_a_host_of_somebody_else(host: str) -> None:
    """No other name or address is the service's, however similar it is."""
    assert not HOSTS.allow(host.encode(), HERE)


def test_an_address_that_was_reached_has_several_spellings() -> None:
    """A socket for both versions of IP names an address of IPv4 by one of IPv6, and one of a link
    with its interface; a client does not."""
    hosts = Hosts([])
    assert hosts.allow(b"192.0.2.7:80", "::ffff:192.0.2.7")
    assert hosts.allow(b"[fe80::0:1]:80", "fe80::1%eth0")
    assert not hosts.allow(b"192.0.2.8:80", "::ffff:192.0.2.7")


@given(host=st.binary(), server=st.text())
def test_any_host(host: bytes, server: str) -> None:
    """The check does not fail, whatever a client names."""
    HOSTS.allow(host, server)
    is_cross_site(b"", host, host, HOSTS)


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("127.0.0.1:80", True),
        ("localhost:80", True),
        ("[::1]:80", True),
        ("unix:/run/x", True),
        ("0.0.0.0:80", False),
        ("[::]:80", False),
        ("[::ffff:127.0.0.1]:80", True),
        ("[::ffff:0.0.0.0]:80", False),
        ("192.168.1.2:80", False),
        ("my-host:80", False),
        ("[2001:db8::1]:80", False),
    ],
)
def test_a_bind_that_only_this_machine_reaches(bind: str, *, expected: bool) -> None:
    """Loopback and Unix sockets are reached by this machine alone."""
    assert is_local(bind) == expected


@pytest.mark.parametrize(
    ("site", "origin", "expected"),
    [
        ("", "", False),  # No browser.
        ("same-origin", "http://a.example", False),
        ("none", "", False),  # The user has typed the address.
        ("same-site", "http://trivet.example.org", True),
        ("cross-site", "", True),
        ("cross-site", "http://trivet.example.org:8080", True),
        ("nonsense", "", True),
        ("", "http://trivet.example.org:8080", False),
        ("", "https://TRIVET.example.org:8080", False),
        ("", "https://trivet.example.org", False),  # A name of the service, at a proxy's port.
        ("", "https://a.below.example", False),
        ("", "http://evil.example", True),
        ("", "http://evil.example:8080", True),
        ("", "null", True),
        ("", "nonsense", True),
    ],
)
def test_a_page_of_another_site(site: str, origin: str, *, expected: bool) -> None:
    """`Sec-Fetch-Site` decides, or else `Origin`; a client without both is no page."""
    host = b"trivet.example.org:8080"
    assert is_cross_site(site.encode(), origin.encode(), host, HOSTS) == expected


def test_two_services_on_one_machine_are_two_sites() -> None:
    """A page of another port of loopback is a page of another site."""
    assert is_cross_site(b"", b"http://127.0.0.1:3000", b"127.0.0.1:8080", Hosts([]))
    assert not is_cross_site(b"", b"http://127.0.0.1:8080", b"127.0.0.1:8080", Hosts([]))


@pytest.mark.parametrize("entry", ["http://a", "a:80", "a b", "*", "*.", "", "a/", "[::1]"])
def test_an_entry_that_no_host_can_match(entry: str) -> None:
    """A name with a scheme or a port is refused where it is written."""
    with pytest.raises(ConfigurationError, match="allowed_hosts: expected names and addresses"):
        load_settings(environ={}, allowed_hosts=[entry])
    good = ["a", "*.a", "a.b-c_d", "10.0.0.1", "2001:db8::1"]
    assert load_settings(environ={}, allowed_hosts=good).allowed_hosts == good


def test_names() -> None:
    """A name is compared without its port, its case and a dot at its end."""
    assert [name_of(each) for each in ("A.:1", " a ", "[::1]", "[::1")] == ["a", "a", "::1", "::1"]
