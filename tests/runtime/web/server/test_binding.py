"""The sockets that systemd hands over, and those that other programs have."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trivet._web._server._binding import bind_socket, sockets_of_systemd

TAKES = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", **dict([sys.argv[2:]])}
from trivet._web._server._binding import sockets_of_systemd, url_of
try:
    taken = sockets_of_systemd()
    print(*[f"{name}={url_of(given)}" for name, given in taken])
except OSError as error:
    print(error)
print("LISTEN_FDS" in os.environ, os.get_inheritable(3))
"""


def taken(descriptor: int, names: str) -> list[str]:
    """The words of a process to which systemd hands a socket over."""
    done = subprocess.run(
        [sys.executable, "-c", TAKES, str(descriptor), "LISTEN_FDNAMES", names],
        pass_fds=[descriptor],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_socket_of_systemd() -> None:
    """A socket that systemd has bound is taken, once, with the name that systemd gives it, and is
    not for processes of a plugin."""
    with bind_socket("127.0.0.1:0") as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert taken(listener.fileno(), "shop") == [f"shop={url}", "False False"]
        assert taken(listener.fileno(), "") == [f"={url}", "False False"]


def test_a_pipe_is_no_socket_of_systemd() -> None:
    """A descriptor that is no socket is refused."""
    reader, writer = os.pipe()
    assert taken(reader, "")[0].startswith("[Errno ")
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("is_ours", "count"), [(False, "1"), (False, ""), (True, "many")])
def test_no_socket_of_systemd(
    monkeypatch: pytest.MonkeyPatch, count: str, *, is_ours: bool
) -> None:
    """Sockets for another process, and none at all, are an error that says what is missing."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if is_ours else "")
    monkeypatch.setenv("LISTEN_FDS", count)
    with pytest.raises(OSError, match="socket unit"):
        sockets_of_systemd()


def test_a_unix_socket_that_is_served_is_not_taken(tmp_path: Path) -> None:
    """The socket of a program that runs is left to it; that of one that has ended is replaced."""
    bind = f"unix:{tmp_path}/socket"
    with bind_socket(bind) as listener:
        listener.listen()
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            bind_socket(bind)
    with bind_socket(bind):
        assert (tmp_path / "socket").is_socket()
