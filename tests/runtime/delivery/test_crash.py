"""Acknowledged events outlive a kill, and the machine; `nox -s crash` kills a thousand times."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

pytestmark = pytest.mark.process

PUBLISHES = """
    import os
    import sys
    from pathlib import Path

    import trio

    from trivet import DeliverySettings, Event, EventPlugin, Settings, StoreSettings, open_runtime


    class Ping(Event):
        pass


    class Keeper(EventPlugin[Ping]):
        delivery = DeliverySettings(durable=True)

        async def handle_event(self, event: Ping) -> None:
            await trio.sleep_forever()


    async def main() -> None:
        store = StoreSettings(path=Path(sys.argv[1]), synchronous=sys.argv[2])
        async with open_runtime(Settings(store=store), plugins=[Keeper]) as runtime:
            await runtime.publish(Ping())
            os.write(2, b"publishes")
            await runtime.publish(Ping())
            os.write(2, b"acknowledged")
            os._exit(0)


    trio.run(main)
"""


def test_a_few_kills() -> None:
    """However a process is killed, what it has acknowledged is handled, in the order of its keys,
    and only what was in flight is handed out again.
    """
    command = [sys.executable, "-m", "tests.runtime.delivery.crash", "--kills", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_an_acknowledged_event_is_on_the_disk(tmp_path: Path, synchronous: str) -> None:
    """With `synchronous = "full"` the log is on the disk when `publish` returns; with `normal` it
    need not be."""
    if shutil.which("strace") is None:
        assert os.environ.get("CI") != "true", "strace has to be installed there"
        pytest.skip("strace is not installed")
    trace, store = tmp_path / "trace", tmp_path / "store.sqlite3"
    calls = ["-f", "-y", "-e", "trace=fdatasync,fsync,write", "-o", str(trace)]
    program = [sys.executable, "-c", dedent(PUBLISHES), str(store), synchronous]
    subprocess.run(["strace", *calls, *program], check=True, capture_output=True)
    text = trace.read_text()
    during = text[text.index('"publishes"') : text.index('"acknowledged"')]
    synchronized = re.findall(r"(?:fdatasync|fsync)\(\d+<(.*?)>", during)
    assert synchronized == ([f"{store}-wal"] if synchronous == "full" else [])
