"""The gateway takes what is signed, once, and nothing else."""

from __future__ import annotations

import base64
import hmac
import time
from pathlib import Path

from trivet.testing import OpenPlugins, client

PLUGINS = Path(__file__).parent / "plugins"
NEW, OLD = b"n" * 24, b"o" * 24
PAYMENT = b'{"payment_id": "p-1", "amount": 9.5, "currency": "EUR"}'


def secret(key: bytes) -> str:
    """The form in which a key stands in the settings."""
    return f"whsec_{base64.b64encode(key).decode()}"


def signed(key: bytes, body: bytes, id: str = "m-1", age: int = 0) -> dict[str, str]:
    """The headers of a request with this body."""
    timestamp = str(int(time.time()) - age)
    digest = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


async def answers(
    open_service: OpenPlugins, file: Path, *requests: tuple[dict[str, str], bytes]
) -> list[int]:
    """The statuses of the answers to some requests; the payments are in the file then."""
    settings: dict[str, dict[str, object]] = {
        "gateway": {"secrets": [secret(NEW), secret(OLD)]},
        "ledger": {"file": str(file)},
    }
    async with open_service("gateway", "ledger", directory=PLUGINS, settings=settings) as runtime:
        web = client(runtime)
        responses = [
            await web.post("/hooks/payments", data=body, headers=headers)
            for headers, body in requests
        ]
    return [response.status_code for response in responses]


async def test_a_payment_is_written_once(open_service: OpenPlugins, tmp_path: Path) -> None:
    """A sender that repeats is answered as the first time, and the payment is one line."""
    request = (signed(NEW, PAYMENT), PAYMENT)
    assert await answers(open_service, tmp_path / "file", request, request) == [202, 202]
    line = b'{"payment_id":"p-1","amount":9.5,"currency":"EUR"}\n'
    assert (tmp_path / "file").read_bytes() == line


async def test_the_old_secret_fits_too(open_service: OpenPlugins, tmp_path: Path) -> None:
    """While the sender changes its secret, either one is taken."""
    request = (signed(OLD, PAYMENT), PAYMENT)
    assert await answers(open_service, tmp_path / "file", request) == [202]


async def test_forgeries_are_refused(open_service: OpenPlugins, tmp_path: Path) -> None:
    """A wrong key, another body, an old request and a missing signature are answered 401."""
    requests = [
        (signed(b"x" * 24, PAYMENT), PAYMENT),
        (signed(NEW, PAYMENT), PAYMENT.replace(b"9.5", b"9500")),
        (signed(NEW, PAYMENT, age=3600), PAYMENT),
        ({"webhook-id": "m-1"}, PAYMENT),
    ]
    assert await answers(open_service, tmp_path / "file", *requests) == [401] * 4
    assert not (tmp_path / "file").exists()


async def test_what_is_no_payment_is_refused(open_service: OpenPlugins, tmp_path: Path) -> None:
    """A signed document that is no payment is answered 400: to repeat it is useless."""
    body = b'{"payment_id": "p-1"}'
    assert await answers(open_service, tmp_path / "file", (signed(NEW, body), body)) == [400]
