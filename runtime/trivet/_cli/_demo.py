"""`trivet demo`: the example plugins, as two services that talk to each other.

Owns the two programs, from their start to their end.
Never knows what the plugins do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from .._faults._errors import ConfigurationError
from .._program._settings import ENVIRONMENT

PACKAGED = Path(__file__).parents[1] / "_examples"
"""The example plugins in an installed package."""
CLONED = Path(__file__).parents[3] / "plugins"
"""The same in a clone, of which this module is a part."""
LIBRARIES = ("httpx", "psutil")

STORE = ("127.0.0.1:5020", ("bucket_store",))
SERVICE = (
    "127.0.0.1:8080",
    ("request_monitoring", "event_sending", "teapot", "resource_monitor", "batching", "handlers"),
)
OFTEN = 0.1
"""Seconds between two looks at a program."""


@click.command()
def demo() -> None:
    """Serve the example plugins, until Ctrl-C.

    They are two services: a bucket store on 127.0.0.1:5020, which plays a third party, and the
    others on 127.0.0.1:8080. No settings are read, and nothing is kept.

    Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 a library is missing, else the code of the service
    that ended by itself.
    """
    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise ConfigurationError(
            f"the examples need {' and '.join(missing)}: pip install 'trivet[examples]'"
        )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # It ends the stack below.
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory())
        services = [stack.enter_context(_served(directory, *each)) for each in (STORE, SERVICE)]
        click.echo(f"trivet: try curl -i http://{SERVICE[0]}/teapot     (Ctrl-C ends it)", err=True)
        while True:
            for service in services:
                _see_that_it_runs(service)
            time.sleep(OFTEN)


@contextmanager
def _served(
    directory: str, address: str, plugins: tuple[str, ...]
) -> Generator[subprocess.Popen[bytes]]:
    """Run one service from its readiness to its clean end."""
    code = "from trivet._cli import main; main()"
    examples = PACKAGED if PACKAGED.is_dir() else CLONED
    arguments = ("serve", *plugins, "--plugins", str(examples), "--bind", address)
    environ = {name: text for name, text in os.environ.items() if not name.startswith(ENVIRONMENT)}
    # Out of the terminal's group, or Ctrl-C would end both at once, in no order.
    process = subprocess.Popen(  # noqa: S603 - it is this interpreter again
        [sys.executable, "-P", "-c", code, *arguments], cwd=directory, env=environ, process_group=0
    )
    try:
        while not _is_ready(address):
            _see_that_it_runs(process)
            time.sleep(OFTEN)
        yield process
    finally:
        process.terminate()
        process.wait()


def _see_that_it_runs(process: subprocess.Popen[bytes]) -> None:
    """End this program as one of its services has ended."""
    if (code := process.poll()) is not None:
        click.echo("trivet: a service has ended by itself: its log is above", err=True)
        sys.exit(code or 1)


def _is_ready(address: str) -> bool:
    """Whether the service at this address says that it is ready."""
    with (
        suppress(OSError, HTTPException),
        closing(HTTPConnection(address, timeout=1)) as connection,
    ):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False
