"""Servers in processes of their own, and the load on them.

Owns their start and end, their use of a processor and of memory, and the call of wrk.
Never knows the comparisons.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import which
from tempfile import NamedTemporaryFile, TemporaryDirectory
from time import perf_counter, sleep
from types import MappingProxyType

import attrs
from pairs import QUICK

ANSWERING = Path(__file__).parent / "answering"
"""The servers that are no Trivet, and in `plugins` those that it loads."""
SECONDS = 0.3 if QUICK else 1.5
"""How long load is put on a server in one round."""
LINE = b'{"order_id":"o-123456","note":"' + b"x" * 215 + b'"}\n'
"""An event."""
TOGETHER = 256
"""Events that are handed to the system at once."""

SCRIPT = """
wrk.method, wrk.body = "{method}", [==[{body}]==]
wrk.headers["Content-Type"] = "{media_type}"
{headers}
if "{numbered}" ~= "" then
  local count = 0
  request = function()
    count = count + 1
    wrk.headers["{numbered}"] = count
    return wrk.format()
  end
elseif wrk.body:find("@") then
  local count = 0
  request = function()
    count = count + 1
    return wrk.format(nil, nil, nil, (wrk.body:gsub("@", count)))
  end
end
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("figures %d %d %d %d %d\\n", summary.requests, summary.duration, failed,
    latency:percentile(50), latency:percentile(99)))
end
"""


@attrs.frozen
class Server:
    """A server that answers."""

    port: int
    process: int
    """The one that answers."""
    watcher: int | None = None
    """The one that watches over the other, where there is one."""
    scheme: str = "http"
    """`https` for a server that speaks TLS."""

    def cpu(self) -> float:
        """Seconds of processor time that the server has used, in all its processes."""
        return sum(_cpu(each) for each in (self.process, self.watcher) if each is not None)


def _cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Load:
    """Figures of a number of requests."""

    rate: float
    """Requests a second."""
    cpu: float
    """Seconds of a processor that the server has used for each."""
    p50: float
    """Seconds within which half of them were answered."""
    p99: float
    """Seconds within which all but one of a hundred were answered."""


@contextmanager
def trivet(plugins: Path, *names: str, settings: str = "") -> Generator[Server]:
    """Run `trivet serve` with these files in a directory, and perhaps with settings."""
    with TemporaryDirectory() as directory:
        Path(directory, "trivet.toml").write_text(settings)
        command = [str(Path(sys.executable).parent / "trivet"), "serve", *names]
        command += ["--plugins", str(plugins.absolute()), "--bind", "127.0.0.1:0"]
        with _answering(command, directory) as (scheme, port, process):
            children = Path(f"/proc/{process}/task/{process}/children").read_text()
            yield Server(port, int(children.split()[0]), process, scheme)


@contextmanager
def script(name: str, *arguments: str) -> Generator[Server]:
    """Run the script of a server."""
    command = [sys.executable, str(ANSWERING / f"{name}.py"), *arguments]
    with _answering(command) as (scheme, port, process):
        yield Server(port, process, scheme=scheme)


@contextmanager
def _answering(command: list[str], cwd: str | None = None) -> Generator[tuple[str, int, int]]:
    """Wait until a process has printed its address; yield its scheme, its port and its id."""
    process = subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, f"{command} has ended"
            found = re.search(r"(https?)://127\.0\.0\.1:(\d+)", line)
        yield found[1], int(found[2]), process.pid
    finally:
        process.terminate()
        process.stderr.read()
        process.wait()


def memory(what: str, process: int | str = "self") -> float:
    """A figure of a process's status, in MiB, by its name there."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def require_wrk() -> None:
    """End the program if wrk is missing."""
    if which("wrk") is None:
        sys.exit("wrk is not on the PATH: install it (`apt-get install wrk`), and begin again")


def wrk(
    server: Server,
    path: str,
    *,
    body: bytes = b"",
    media_type: str = "application/json",
    connections: int = 16,
    numbered: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Load:
    """Load a server over a number of connections, each without pauses; a body makes a POST.

    In a body, the number of the request takes the place of each `@`; it is the value of the header
    `numbered`, so that no head is like another.
    """
    with NamedTemporaryFile("w", suffix=".lua") as lua:
        method = "POST" if body else "GET"
        lines = "\n".join(f'wrk.headers["{name}"] = "{each}"' for name, each in headers.items())
        values = {"body": body.decode(), "media_type": media_type, "numbered": numbered}
        lua.write(SCRIPT.format(method=method, headers=lines, **values))
        lua.flush()
        url = f"{server.scheme}://127.0.0.1:{server.port}{path}"
        command = ["wrk", "-t1", f"-c{connections}", "-d60s", "-s", lua.name, url]
        before = server.cpu()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        sleep(SECONDS)
        process.send_signal(signal.SIGINT)  # It knows whole seconds only.
        printed, _ = process.communicate()
        used = server.cpu() - before
    found = re.search(r"figures (\d+) (\d+) (\d+) (\d+) (\d+)", printed)
    assert found is not None, printed
    requests, microseconds, failed, p50, p99 = map(int, found.groups())
    assert requests, printed
    assert not failed, printed
    return Load(requests / microseconds * 1e6, used / requests, p50 / 1e6, p99 / 1e6)


def stream(server: Server, path: str, size: int) -> float:
    """Send one stream of about `size` bytes; events a second."""
    chunk = LINE * TOGETHER
    chunks = size // len(chunk)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {chunks * len(chunk)}\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", server.port))) as connection:
        began = perf_counter()
        connection.sendall(head.encode())
        for _ in range(chunks):
            connection.sendall(chunk)
        body = _answer(connection)
        took = perf_counter() - began
    lines = chunks * TOGETHER
    assert b'"lines":%d' % lines in body.replace(b" ", b""), body
    return lines / took


def _answer(connection: socket.socket) -> bytes:
    """The body of the next answer, which gives its length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None, head
    while len(body) < int(length[1]):
        body += _more(connection)
    assert b" 202 " in head.split(b"\r\n")[0], head + body
    return body


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    assert received, "the connection was closed before the answer was whole"
    return received
