"""Requests through proxies: whose word counts, and what follows from it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from quart import request
from structlog.testing import capture_logs

from trivet import (
    BackgroundPlugin,
    ConfigurationError,
    Secret,
    Settings,
    TokenSettings,
    load_settings,
    route,
)
from trivet._web._proxies import Proxies
from trivet.testing import open_plugins, serving

PROXY, OTHER, CLIENT = "10.0.0.1", "10.0.0.2", "192.0.2.7"


def original(
    *headers: tuple[str, str],
    peer: str | None = PROXY,
    path: str = "/a",
    type: str = "http",
    scheme: str = "http",
    **settings: Any,
) -> dict[str, Any]:
    """The scope behind a proxy, from a request with these headers."""
    settings.setdefault("trusted_proxies", ["10.0.0.0/8"])
    proxies = Proxies.of(Settings(**settings))
    assert proxies is not None
    scope: Any = {
        "type": type,
        "scheme": scheme,
        "client": None if peer is None else (peer, 4000),
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"inner"),
            *((name.lower().encode(), value.encode()) for name, value in headers),
        ],
    }
    found: Any = proxies.original(scope)
    return dict(found)


def client_of(*headers: tuple[str, str], **more: Any) -> object:
    """The client's address."""
    return original(*headers, **more)["client"][0]


def by(*clients: str) -> tuple[str, str]:
    """The header of proxies that came one after the other."""
    return "X-Forwarded-For", ", ".join(clients)


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([by(CLIENT)], CLIENT),
        ([by("203.0.113.9", CLIENT)], CLIENT),
        ([by(CLIENT, OTHER)], CLIENT),
        ([by("203.0.113.9", CLIENT, OTHER)], CLIENT),
        ([by(OTHER, OTHER)], OTHER),
        ([by("203.0.113.9"), by(CLIENT)], CLIENT),
        ([by(f"{CLIENT}:81")], CLIENT),
        ([by("2001:db8::1")], "2001:db8::1"),
        ([by("[2001:db8::1]:81")], "2001:db8::1"),
        ([by("::ffff:192.0.2.7")], CLIENT),
        ([by("::ffff:10.0.0.3", "::ffff:10.0.0.2")], "10.0.0.3"),
        ([by("unknown")], PROXY),
        ([by(CLIENT, "unknown")], PROXY),
        ([by(CLIENT, "unknown", OTHER)], OTHER),
        ([by("")], PROXY),
        ([by("999.0.0.1")], PROXY),
        ([], PROXY),
        ([("Forwarded", f"for={CLIENT}")], PROXY),
    ],
)
def test_the_client_is_the_first_that_is_no_trusted_proxy(
    headers: list[tuple[str, str]], client: str
) -> None:
    """Trusted proxies are believed from the nearest on; what a client has written before the first
    word of theirs is not."""
    assert client_of(*headers) == client


def test_nobody_else_is_believed() -> None:
    """The headers of a client that is no trusted proxy change nothing."""
    headers = (by("203.0.113.9"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil"))
    scope = original(*headers, peer=CLIENT)
    assert (scope["client"], scope["scheme"]) == ((CLIENT, 4000), "http")
    assert scope["headers"][0] == (b"host", b"inner")
    assert client_of(by(CLIENT), peer=PROXY, trusted_proxies=["unix"]) == PROXY


def test_a_unix_socket_may_be_a_proxys() -> None:
    """A client without an address is believed if `unix` is among the proxies."""
    assert client_of(by(CLIENT), peer=None, trusted_proxies=["unix"]) == CLIENT
    assert original(by(CLIENT), peer=None)["client"] is None


@pytest.mark.parametrize(
    ("clients", "schemes", "hosts", "found"),
    [
        (CLIENT, "https", "shop.example:8443", ("https", b"shop.example:8443")),
        (CLIENT, "HTTPS", "", ("https", b"inner")),
        (CLIENT, "ftp", "shop.example", ("http", b"shop.example")),
        ("", "https", "shop.example", ("https", b"shop.example")),
        (f"{CLIENT}, {OTHER}", "https, http", "shop.example, inside", ("https", b"shop.example")),
        (f"{CLIENT}, {OTHER}", "https", "shop.example", ("https", b"shop.example")),
        (f"203.0.113.9, {CLIENT}", "https, http", "evil, shop.example", ("http", b"shop.example")),
    ],
)
def test_the_scheme_and_the_host(
    clients: str, schemes: str, hosts: str, found: tuple[str, bytes]
) -> None:
    """The scheme and the host are those of the client's request to its proxy."""
    given = {"For": clients, "Proto": schemes, "Host": hosts}
    headers = [(f"X-Forwarded-{name}", value) for name, value in given.items() if value]
    scope = original(*headers)
    assert (scope["scheme"], scope["headers"][0][1]) == found
    assert [name for name, _ in scope["headers"]].count(b"host") == 1


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"for={CLIENT};proto=https;host=shop.example", (CLIENT, "https", b"shop.example")),
        (f"For={CLIENT} ; PROTO=https", (CLIENT, "https", b"inner")),
        ('for="[2001:db8::1]:4711";proto=http', ("2001:db8::1", "http", b"inner")),
        (f"for=203.0.113.9, for={CLIENT}, for={OTHER}", (CLIENT, "http", b"inner")),
        (f'for="203.0.113.9, for={CLIENT};proto=https', (CLIENT, "https", b"inner")),
        ("for=_hidden;proto=https", (PROXY, "https", b"inner")),
        ("nonsense", (PROXY, "http", b"inner")),
    ],
)
def test_the_header_forwarded(header: str, found: tuple[str, str, bytes]) -> None:
    """`Forwarded` is read where the operator says that the proxies write it, and only then."""
    scope = original(("Forwarded", header), by("203.0.113.9"), proxy_headers="forwarded")
    assert (scope["client"][0], scope["scheme"], scope["headers"][0][1]) == found


def test_a_websocket_is_secure_too() -> None:
    """The scheme of a websocket behind TLS is `wss`."""
    scope = original(("X-Forwarded-Proto", "https"), type="websocket", scheme="ws")
    assert scope["scheme"] == "wss"


def test_a_long_header_is_read_in_part() -> None:
    """A chain of trusted proxies that a client has made up ends nowhere."""
    assert client_of(by(*[CLIENT, *[OTHER] * 1000])) == OTHER


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/a", "/trivet/a"),
        ("/trivet/a", "/trivet/a"),
        ("/trivet", "/trivet"),
        ("/trivets", "/trivet/trivets"),
        ("/", "/trivet/"),
    ],
)
def test_the_root_path(path: str, found: str) -> None:
    """A path is below the root path, whether the proxy has taken that away or not."""
    scope = original(path=path, trusted_proxies=[], root_path="/trivet", peer=CLIENT)
    assert (scope["root_path"], scope["path"]) == ("/trivet", found)
    assert scope["raw_path"] == found.encode()


def test_no_path_is_not_below_the_root() -> None:
    """A target that is no path stays as it is."""
    assert original(path="*", root_path="/trivet")["path"] == "*"


def test_without_proxies_nothing_is_asked() -> None:
    """Without these settings there is nothing to be done for a request."""
    assert Proxies.of(Settings()) is None


class Desk(BackgroundPlugin):
    @route("/here/<name>")
    async def here(self, name: str) -> dict[str, object]:
        return {
            "url": request.url,
            "client": request.remote_addr,
            "root": request.root_path,
            "name": name,
        }


async def test_a_plugin_sees_its_clients() -> None:
    """A plugin's route sees the client's address and the URL that it has asked for."""
    settings: dict[str, Any] = {"trusted_proxies": ["127.0.0.0/8"], "root_path": "/trivet"}
    headers = {
        "X-Forwarded-For": CLIENT,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "127.0.0.1",
    }
    async with open_plugins(Desk, **settings) as runtime, serving(runtime) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            for path in ("/here/me", "/trivet/here/me"):
                answer = (await client.get(path)).json()
                assert answer["url"] == "https://127.0.0.1/trivet/here/me"
                assert (answer["client"], answer["root"]) == (CLIENT, "/trivet")
            for path in ("/livez", "/trivet/livez"):
                assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("proxies", "scopes", "told"),
    [
        (["127.0.0.1"], [], ["ingest", "read"]),
        (["unix"], ["ingest"], ["read"]),
        (["127.0.0.1"], ["ingest", "read"], None),
        ([], [], None),
    ],
)
async def test_a_proxy_lets_others_in(
    proxies: list[str], scopes: list[Any], told: list[str] | None
) -> None:
    """A start behind proxies warns of the scopes that need no token: their clients are not only
    those of this machine."""
    secret = Secret("correct-horse-battery")
    tokens = [TokenSettings(name="shop", scopes=scopes, secret=secret)] if scopes else []
    with capture_logs() as logs:
        async with open_plugins(Desk, tokens=tokens, trusted_proxies=proxies) as runtime:
            async with serving(runtime):
                pass
    found = [line["scopes"] for line in logs if line["event"].startswith("proxies let others in")]
    assert found == ([] if told is None else [told])


@pytest.mark.parametrize("form", ["x-forwarded", "forwarded"])
@pytest.mark.parametrize(
    ("host", "told", "status"),
    [
        ("shop.example", "", 200),
        ("shop.example", "localhost", 200),
        ("127.0.0.1", "shop.example", 200),
        ("", "shop.example", 200),
        ("evil.example", "", 421),
        ("evil.example", "localhost", 421),
        ("evil.example", "shop.example", 421),
        ("127.0.0.1", "evil.example", 421),
        ("upstream", "shop.example", 421),
    ],
)
async def test_both_hosts_have_to_be_right(form: str, host: str, told: str, status: int) -> None:
    """A page that leads its own name to a trusted address may write the headers of a proxy, and
    cannot change the `Host`: so that counts beside the host that a proxy tells."""
    header = ("X-Forwarded-Host", told) if form == "x-forwarded" else ("Forwarded", f"host={told}")
    settings: dict[str, Any] = {"trusted_proxies": ["127.0.0.1"], "proxy_headers": form}
    headers = {"Host": host} | (dict([header]) if told else {})
    async with (
        open_plugins(Desk, allowed_hosts=["shop.example"], **settings) as runtime,
        serving(runtime) as url,
        httpx.AsyncClient(base_url=url, headers=headers) as client,
    ):
        assert (await client.get("/here/me")).status_code == status
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("trusted_proxies", "10.0.0.0/40"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("trusted_proxies", "proxy.example"),
        ("root_path", "trivet"),
        ("root_path", "/trivet/"),
        ("root_path", "/"),
    ],
)
def test_a_wrong_setting(setting: str, text: str) -> None:
    """A text that is no network, or no path, is an error at the start."""
    with pytest.raises(ConfigurationError, match=f"TRIVET_{setting.upper()}: expected"):
        load_settings(None, {f"TRIVET_{setting.upper()}": text})
