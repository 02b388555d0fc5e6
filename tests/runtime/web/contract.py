"""Requests that are generated from a program's own OpenAPI document, and sent to it.

`python -m tests.runtime.web.contract --requests N` sends at least N of them, with `--seed` the same
ones again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import attrs
import msgspec
import trio
from quart import request, websocket

from trivet import (
    BackgroundPlugin,
    Event,
    EventPlugin,
    Handler,
    Secret,
    TokenSettings,
    route,
    websocket_route,
)
from trivet.testing import open_plugins, serving

SECRET = "of-all-the-doors-here"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
"""The checks of each response."""
SETTINGS = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]
"""
"""The statuses that are right: 504 is for an event whose `expirytime` is over."""
OPERATIONS_WITH_INPUT = 25
"""At least so many operations have arguments, and so get as many requests as one may have."""


class Address(msgspec.Struct):
    street: Annotated[str, msgspec.Meta(max_length=20)]
    floor: int | None = None


class Ordered(Event):
    number: Annotated[int, msgspec.Meta(ge=1)]
    place: tuple[float, float] = (0.0, 0.0)
    addresses: list[Address] = attrs.field(factory=list[Address])
    size: Literal["s", "m"] = "s"


class Rushed(Ordered):
    hours: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class Kitchen(EventPlugin[Ordered]):
    async def handle_event(self, event: Ordered) -> None:
        assert event.number > 0


class Shop(BackgroundPlugin):
    @route("/orders/<int:number>", methods=["GET", "DELETE"])
    async def order(self, number: int) -> dict[str, int]:
        return {"number": number}

    @route("/names/<name>/<any(a, b):kind>")
    async def named(self, name: str, kind: str) -> str:
        return name + kind

    @route("/files/<path:file>", scope="ingest")
    class File(Handler["Shop"]):
        """A file."""

        async def put(self, file: str) -> tuple[str, int]:
            return str(len(await request.get_data()) + len(file)), 201

        async def patch(self, file: str) -> bytes:
            return file.encode()

    @route("/amounts/<float:amount>/<uuid:key>", scope=None)
    async def amount(self, amount: float, key: object) -> dict[str, str]:
        return {"amount": str(amount), "key": str(key)}

    @websocket_route("/news")
    async def news(self) -> None:
        await websocket.send("news")


async def send_requests(requests: int, seed: int) -> tuple[int, str]:
    """Generate requests, and check the responses.

    Args:
        requests: the number of requests, at least.
        seed: that of the random choices.

    Returns:
        The number of requests that were sent, 0 unless all responses are as the document says; and
        the whole report.
    """
    with TemporaryDirectory() as directory:
        return await _send(directory, requests, seed)


async def _send(directory: str, requests: int, seed: int) -> tuple[int, str]:
    token: Any = TokenSettings(
        name="all", scopes=["ingest", "read", "admin"], secret=Secret(SECRET)
    )
    async with (
        open_plugins(Kitchen, Shop, tokens=[token], event_types=[Ordered, Rushed]) as runtime,
        serving(runtime) as url,
    ):
        settings = trio.Path(directory, "settings.toml")
        await settings.write_text(SETTINGS, "utf-8")
        command = [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--config-file",
                str(settings),
                "run",
                f"{url}/openapi.json",
            ),
            *("--header", f"Authorization: Bearer {SECRET}"),
            *("--phases", "fuzzing", "--max-examples", str(requests // OPERATIONS_WITH_INPUT)),
            *("--checks", ",".join(CHECKS), "--seed", str(seed), "--no-color"),
            *("--exclude-path", "/-/live"),  # A stream ends with the service, or its client.
            *("--exclude-path", "/-/tap"),
        ]
        done = await trio.run_process(
            command, capture_stdout=True, stderr=subprocess.STDOUT, check=False, cwd=directory
        )
    report = done.stdout.decode("utf-8", "replace")
    sent = re.search(r"(\d+) generated, (\d+) passed", report)
    if done.returncode != 0 or sent is None or sent[1] != sent[2]:
        return 0, report
    return int(sent[1]), report


def main() -> None:
    """Send the requests, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sent, report = trio.run(send_requests, arguments.requests, arguments.seed)
    sys.stdout.write(report)
    sys.exit(f"only {sent} good ones" if sent < arguments.requests else None)


if __name__ == "__main__":
    main()
