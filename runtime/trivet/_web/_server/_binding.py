"""An operator's address, and the socket that is bound to it.

Owns the three forms of an address.
Never knows which server listens there.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from itertools import chain, repeat

BACKLOG = 1024
"""Connections that wait to be accepted, where the system allows so many: all clients of a program
wait while a new one takes its place."""


_SYSTEMD = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_FIRST = 3
"""The first descriptor that systemd hands over."""


def bind_socket(bind: str) -> socket.socket:
    """Open a socket that is bound to an address, and does not listen yet.

    Args:
        bind: `HOST:PORT` (port 0 is any free one), `unix:PATH`, or `fd://NUMBER`.

    Raises:
        OSError: the address is taken, or is not this machine's.
        ValueError: the text is no address.
    """
    if bind.startswith("fd://"):
        return socket.socket(fileno=int(bind.removeprefix("fd://")))
    if bind.startswith("unix:"):
        return _unix(bind.removeprefix("unix:"))
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((host, int(port)))
    except BaseException:
        made.close()
        raise
    return made


def address_of(bind: str) -> str:
    """The address of a bind, `HOST:PORT` or `unix:PATH`: that of its socket for `fd://NUMBER`.

    Raises:
        OSError: the descriptor is no socket.
        ValueError: the number is none.
    """
    if not bind.startswith("fd://"):
        return bind
    with socket.socket(fileno=os.dup(int(bind.removeprefix("fd://")))) as copy:
        return url_of(copy).removeprefix("http://")


def _unix(path: str) -> socket.socket:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _is_served(path):  # noqa: PTH116
            os.remove(path)  # noqa: PTH107 - it is of a program that has ended
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(path)
    except BaseException:
        made.close()
        raise
    return made


def _is_served(path: str) -> bool:
    """Whether a program listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # Its backlog may be full, say.
    return True


def sockets_of_systemd() -> list[tuple[str, socket.socket]]:
    """The sockets that systemd has bound for this process, which gets them once, with their names.

    The name is the `FileDescriptorName` of a socket unit, which is the unit's own by default.

    Raises:
        OSError: there are none, or one of them is no stream that listens.
    """
    inherited = {name: os.environ.pop(name, "") for name in _SYSTEMD}
    if inherited["LISTEN_PID"] != str(os.getpid()) or not inherited["LISTEN_FDS"].isdigit():
        raise OSError("systemd has handed no socket over: the service needs a socket unit")
    count = int(inherited["LISTEN_FDS"])
    names = inherited["LISTEN_FDNAMES"].split(":")
    taken: list[tuple[str, socket.socket]] = []
    for number, name in zip(range(count), chain(names, repeat("")), strict=False):
        os.set_inheritable(_FIRST + number, False)
        given = socket.socket(fileno=_FIRST + number)
        taken.append((name, given))
        if given.type != socket.SOCK_STREAM:
            raise OSError("systemd has handed over a socket that is no stream")
    return taken


def url_of(listener: socket.socket, *, is_secure: bool = False) -> str:
    """The URL of a listening socket, for clients and logs.

    Args:
        listener: the socket.
        is_secure: whether TLS is spoken at TCP addresses.

    >>> with bind_socket("127.0.0.1:0") as listener:
    ...     url_of(listener).rpartition(":")[0]
    'http://127.0.0.1'
    """
    name = listener.getsockname()
    scheme = "https" if is_secure else "http"
    if listener.family == socket.AF_INET:
        return f"{scheme}://{name[0]}:{name[1]}"
    if listener.family == socket.AF_INET6:
        return f"{scheme}://[{name[0]}]:{name[1]}"
    return f"http://unix:{name}"
