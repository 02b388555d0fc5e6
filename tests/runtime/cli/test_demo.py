"""`trivet demo`: the example plugins as a program of two services, on free ports here."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

CODE = """
import sys
from trivet._cli import _demo, main
_demo.STORE, _demo.SERVICE = (sys.argv[1], ("bucket_store",)), (sys.argv[2], ("teapot",))
main(["demo"])
"""


def started(directory: Path, store: str, service: str) -> subprocess.Popen[str]:
    """The command, with these addresses for the two services."""
    (directory / "trivet.toml").write_text("of no program's settings = [")
    command = [sys.executable, "-P", "-c", CODE, store, service]
    return subprocess.Popen(command, cwd=directory, stderr=subprocess.PIPE, text=True)


def free_address() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_both_services_run_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """Both serve, whatever settings lie around; a signal ends them, and the command with 0."""
    process = started(tmp_path, free_address(), service := free_address())
    assert process.stderr is not None
    try:
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("trivet: try curl"):
                break
        assert f"http://{service}/teapot" in lines[-1], "".join(lines)
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, rest
    for plugin in ("bucket_store", "teapot"):
        assert any("plugin ended" in line and plugin in line for line in rest.splitlines()), rest


def test_a_service_that_cannot_start_ends_the_demonstration(tmp_path: Path) -> None:
    """Its log names the address, and the command ends with its code, the other service's end
    awaited."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = started(tmp_path, free_address(), address)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 3
    assert address in said
    assert "a service has ended by itself: its log is above" in said


def test_a_port_with_another_service(tmp_path: Path) -> None:
    """A service that speaks no HTTP at one of the addresses ends the demonstration with a word."""
    with socket.create_server(("127.0.0.1", 0)) as taken:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = taken.accept()
                    with connection:
                        connection.sendall(b"220 mail.example\r\n")

        talker = Thread(target=answer, daemon=True)
        talker.start()
        process = started(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}", free_address())
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 3
    assert "Traceback" not in said


def test_a_library_that_is_missing(tmp_path: Path) -> None:
    """Without the libraries of the examples the command says what to install."""
    code = "import importlib.util as util; find = util.find_spec\n"
    code += "util.find_spec = lambda name: None if name in ('psutil', 'httpx') else find(name)\n"
    command = [sys.executable, "-P", "-c", f"{code}{CODE}", "", ""]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the examples need httpx and psutil: pip install 'trivet[examples]'" in done.stderr
