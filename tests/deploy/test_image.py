"""The image's promises, without an image: process 1, another user, a read-only root."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
import trio

import trivet

from ..contrib.programs import Program, needs

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make namespaces and change users"),
    needs("unshare"),
    needs("setpriv"),
]

USER = 10001
KEEPER = """
    import os
    from pathlib import Path

    from trivet import DeliverySettings, Event, EventPlugin, route

    class Tea(Event):
        cups: int

    class Keeper(EventPlugin[Tea]):
        delivery = DeliverySettings(durable=True)

        async def initialize(self):
            self.cups = 0

        async def handle_event(self, event):
            self.cups += event.cups

        @route("/about")
        async def about(self):
            try:
                (Path(__file__).parents[1] / "open/new").touch()
                root = "writable"
            except OSError:
                root = "read-only"
            return {"user": os.getuid(), "parent": os.getppid(), "root": root, "cups": self.cups}
"""


@pytest.fixture
def image() -> Iterator[Path]:
    """A directory that every user may enter: the image's /opt and /etc, and its volume."""
    with tempfile.TemporaryDirectory(prefix="trivet-image-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for folder in ("python", "site", "runtime", "contrib", "volume", "plugins"):
            (directory / folder).mkdir()
        (directory / "open").mkdir()
        (directory / "open").chmod(0o777)  # The root alone keeps the user from writing there.
        (directory / "plugins/keeper.py").write_text(dedent(KEEPER))
        (directory / "trivet").write_text("from trivet._cli import main\nmain()\n")
        yield directory


def command(image: Path, port: int) -> list[str]:
    """The command that runs `trivet serve` as process 1 of a container, as far as it matters."""
    roots = Path(trivet.__file__).parents[1], Path(trivet.__file__).parents[2] / "contrib"
    mounts = {
        "python": sys.base_prefix,
        "site": sysconfig.get_path("purelib"),
        "runtime": roots[0],
        "contrib": roots[1],
    }
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = ":".join(str(image / folder) for folder in ("site", "runtime", "contrib"))
    volume = image / "volume"
    steps = [
        f"mount --bind {image} {image}",
        *(f"mount --bind {shlex.quote(str(of))} {image / at}" for at, of in mounts.items()),
        *(f"mount -o remount,ro,bind {image / at}" for at in mounts),
        f"mount -t tmpfs -o uid={USER},gid={USER},mode=750 tmpfs {volume}",
        f"mount -o remount,ro,bind {image}",
        "mount -o remount,ro,bind /",
        f"cd {volume}",
    ]
    user = (
        f"setpriv --reuid={USER} --regid={USER} --clear-groups --no-new-privs "
        "--bounding-set=-all --inh-caps=-all"
    )
    environ = (
        f"env -i PYTHONPATH={path} LD_LIBRARY_PATH={image}/python/lib "
        f"TRIVET_STORE__PATH={volume}/trivet.sqlite3"
    )
    serve = f"{image}/python/bin/{version} {image}/trivet serve keeper"
    options = f"--plugins {image}/plugins --bind 127.0.0.1:{port}"
    steps.append(f"exec {user} {environ} {serve} {options}")
    return ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", "\n".join(steps)]


async def test_it_runs_as_another_user_on_a_read_only_root(image: Path, tmp_path: Path) -> None:
    """Process 1 serves and stores as a user without rights, writes to its volume alone, has a
    program that died started again, and ends in order."""
    program = Program(tmp_path)
    program.run(*command(image, program.port))
    try:
        base = f"http://127.0.0.1:{program.port}"
        with trio.fail_after(60):
            async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
                about = await asked(client, program)
                assert about == {"user": USER, "parent": 1, "root": "read-only", "cups": 0}
                answer = await client.post("/events/tea", json={"cups": 2})
                assert answer.status_code == 202, answer.text
                (first,) = children(program.pid)
                (served,) = children(first)
                os.kill(served, signal.SIGKILL)
                while children(first) == [served]:
                    await trio.sleep(0.02)
                assert (await asked(client, program))["user"] == USER
            os.kill(first, signal.SIGTERM)
            while program.pid is not None:
                await trio.sleep(0.02)
    finally:
        await program.kill()  # noqa: ASYNC102 - without a checkpoint
    assert "plugin ended" in program.said
    assert "killing it" not in program.said


async def asked(client: httpx.AsyncClient, program: Program) -> dict[str, object]:
    """The program's account of itself, once it listens."""
    while True:
        assert program.pid is not None, program.said
        try:
            found: dict[str, object] = (await client.get("/about")).json()
        except httpx.TransportError:
            await trio.sleep(0.05)
        else:
            return found


def children(pid: int | None) -> list[int]:
    """The child processes of a process."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
