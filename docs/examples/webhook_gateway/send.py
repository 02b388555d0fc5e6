"""Plays the payment service: sends a payment twice, another one, and a forgery.

`python send.py URL`
"""

from __future__ import annotations

import base64
import hmac
import sys
import time
import urllib.error
import urllib.request

KEY = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
PAYMENTS = {
    "m-1": b'{"payment_id": "p-1", "amount": 9.5, "currency": "EUR"}',
    "m-2": b'{"payment_id": "p-2", "amount": 20.0, "currency": "USD"}',
}


def send(url: str, id: str, body: bytes, key: bytes = KEY) -> int:
    """Post one signed request; returns the status of the answer."""
    timestamp = str(int(time.time()))
    digest = hmac.digest(key, b"%b.%b.%b" % (id.encode(), timestamp.encode(), body), "sha256")
    headers = {
        "webhook-id": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def main(url: str) -> None:
    """Send the requests, and print the answers."""
    print("p-1:", send(url, "m-1", PAYMENTS["m-1"]))
    print("p-1 again:", send(url, "m-1", PAYMENTS["m-1"]))
    print("p-2:", send(url, "m-2", PAYMENTS["m-2"]))
    print("a forgery:", send(url, "m-3", PAYMENTS["m-2"], key=b"another key"))


if __name__ == "__main__":
    main(sys.argv[1])
