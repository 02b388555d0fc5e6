"""The doors: an event and a route with a token asked for, and a route over TLS, under wrk.

    python tests/bench/bench_doors.py [--quick]

Each server is a process of its own, asked by wrk over 16 connections, in turns with the one that it
is compared with. The figures are requests per second of the server's processor time, and their
ratios are of nine pairs. "Open" is the same program without tokens. Both sides have shortcuts;
"through the layers" keeps both from them, by a query or a header that no shortcut is for. "Another
head each time" gives each request a number in a header. The certificate has a key
of 256 bits on a curve, and connections are kept, so that all their requests share a handshake.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme
from pairs import QUICK, Table, pairs
from servers import ANSWERING, LINE, Server, require_wrk, script, trivet, wrk

SECRET = "of-the-clerk-in-the-shop"
TOKENS = f"""
[[tokens]]
name = "clerk"
scopes = ["ingest", "read"]
secret = "{SECRET}"
"""
TLS = """
[tls]
certificate = "{}"
"""
ROUNDS = 2 if QUICK else 9


def answered(
    server: Server, path: str, body: bytes, headers: dict[str, str], numbered: str = ""
) -> float:
    """Requests per second of the server's processor time."""
    return 1 / wrk(server, path, body=body, headers=headers, numbered=numbered).cpu


def main() -> None:
    """Measure, and print the table."""
    require_wrk()
    plugins = ANSWERING / "plugins"
    token = {"Authorization": f"Bearer {SECRET}"}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        certificate = directory / "server.pem"
        issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert(
            "127.0.0.1", key_type=trustme.KeyType.ECDSA
        )
        issued.private_key_and_cert_chain_pem.write_to_path(str(certificate))
        certificate.chmod(0o600)
        opened = stack.enter_context(trivet(plugins, "shop"))
        shut = stack.enter_context(trivet(plugins, "shop", settings=TOKENS))
        over_tls = stack.enter_context(trivet(plugins, "shop", settings=TLS.format(certificate)))
        peer = stack.enter_context(script("peer", "starlette", str(certificate)))
        table = Table("The doors", "requests per second of a processor")
        event, none = LINE.strip(), b""
        for what, path, body, headers, numbered in (
            ("an event", "/events/ordered", event, {}, ""),
            ("a route", "/hello", none, {}, ""),
            ("an event, another head each time", "/events/ordered", event, {}, "X-Number"),
            ("a route, another head each time", "/hello", none, {}, "X-Number"),
            ("an event through the layers", "/events/ordered?a=b", event, {}, ""),
            ("a route through the layers", "/hello", none, {"Upgrade": "none"}, ""),
        ):
            measure = partial(answered, shut, path, body, {**headers, **token}, numbered)
            beside = partial(answered, opened, path, body, headers, numbered)
            rates, ratio = pairs(measure, beside, ROUNDS)
            table.row(f"{what}, with a token", rates.median, "open", ratio, "≥ 0.95")
        for name, other in (("without TLS", opened), ("Starlette on uvicorn with TLS", peer)):
            measure = partial(answered, over_tls, "/hello", none, {})
            rates, ratio = pairs(measure, partial(answered, other, "/hello", none, {}), ROUNDS)
            table.row("a route over TLS", rates.median, name, ratio, "")


if __name__ == "__main__":
    main()
