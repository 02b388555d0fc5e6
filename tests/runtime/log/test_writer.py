"""The log beside readers that leave, that do not read, and authors who log wrongly."""

from __future__ import annotations

import io
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import structlog

from trivet._log import _writer as _log_writer
from trivet._log._logging import configure_logging
from trivet._log._writer import LIMIT, Stream, Writer
from trivet._program._settings import LogSettings

LINE = b"x" * 999 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's two ends, which are closed in the end, if the test has not done so."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def told(lines: list[int]) -> Callable[[int], None]:
    """Keep what a writer tells of its losses."""
    return lines.append


def read_all(descriptor: int, size: int) -> bytes:
    """Read so many bytes."""
    read = b""
    while len(read) < size:
        read += os.read(descriptor, size - len(read))
    return read


def test_a_line_is_written_before_the_call_returns(pipe: tuple[int, int]) -> None:
    """A line is in the pipe when the call returns."""
    reader, end = pipe
    writer = Writer(end, print)
    os.set_blocking(reader, False)
    for number in range(20):
        writer.write(f"{number}\n".encode())
        assert os.read(reader, 100) == f"{number}\n".encode()
    assert (writer.lost, writer.trouble) == (0, None)


def test_a_pipe_without_a_reader_makes_no_task_wait(pipe: tuple[int, int]) -> None:
    """Waiting lines are bounded in bytes, further lines are lost and counted, and the order is
    kept."""
    reader, end = pipe
    losses: list[int] = []
    writer = Writer(end, told(losses))
    began = time.thread_time()
    count = 3 * LIMIT // 1000
    for number in range(count):
        writer.write(b"%9d" % number + LINE[9:])
    assert time.thread_time() - began < 2.0
    assert writer.trouble == _log_writer.NOBODY_READS
    assert writer.lost >= 1.8 * LIMIT / 1000
    kept = count - writer.lost
    read = read_all(reader, kept * 1000)
    assert [int(line[:9]) for line in read.splitlines()] == list(range(kept))
    while not losses:
        time.sleep(0.001)
    assert losses == [count - kept]


def test_other_users_of_the_pipe_do_not_find_it_changed(pipe: tuple[int, int]) -> None:
    """The process's own standard error, and its parent's, wait as before."""
    _, end = pipe
    Writer(end, print).write(LINE)
    assert os.get_blocking(end)


def closed_reader() -> int:
    """A pipe whose reader has left."""
    reader, end = os.pipe()
    os.close(reader)
    return end


def closed_terminal() -> int:
    """A terminal that was closed."""
    master, terminal = pty.openpty()
    os.close(master)
    return terminal


def closed_socket() -> int:
    """A socket whose other side was closed, as of a service manager's journal."""
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def full_disk() -> int:
    """A file on a disk without room."""
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("broken", [closed_reader, closed_terminal, closed_socket, full_disk])
def test_a_line_that_cannot_be_written_is_counted(broken: Callable[[], int]) -> None:
    """A line that cannot be written raises nothing, is counted as lost, and its reason is kept."""
    end = broken()
    writer = Writer(end, print)
    for _ in range(5):
        writer.write(LINE)
    os.close(end)
    assert writer.lost == 5
    assert writer.trouble is not None


def test_a_writer_without_standard_error_writes_nothing() -> None:
    """A service may be started with its standard error closed."""
    end = closed_reader()
    os.close(end)
    writer = Writer(end, print)
    writer.write(LINE)
    assert writer.lost == 0


def test_a_descriptor_that_is_another_file_by_now_is_not_written_to(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin closes what is not its own, and a client's connection gets the number."""
    own: list[int] = []
    real = _log_writer._own  # pyright: ignore[reportPrivateUsage]

    def spy(descriptor: int) -> tuple[int, bool]:
        own.append(real(descriptor)[0])
        return own[0], True

    monkeypatch.setattr(_log_writer, "_own", spy)
    writer = Writer(pipe[1], print)
    reader, other = os.pipe()
    os.dup2(other, own[0])
    writer.write(LINE)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    assert writer.lost == 1
    for descriptor in (reader, other, own[0]):
        os.close(descriptor)


def test_a_reader_that_comes_back_is_told_how_much_it_has_missed() -> None:
    """The count is told with the first line that can be written again."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    losses: list[int] = []
    writer = Writer(ours.fileno(), told(losses))
    while not writer.lost:
        writer.write(LINE)
    assert losses == []
    thread = threading.Thread(target=lambda: [None for _ in iter(lambda: theirs.recv(65536), b"")])
    thread.start()
    while not losses:
        time.sleep(0.001)
    assert losses == [1]
    assert writer.trouble is None
    writer.flush(5)
    ours.shutdown(socket.SHUT_RDWR)
    thread.join()
    ours.close()
    theirs.close()


FORKS = """
import os, threading, warnings
from trivet._log import _writer

def hold():
    with _writer._writer._lock:
        is_held.set()
        is_over.wait()

stream = _writer.open_stderr(print)
is_held, is_over = threading.Event(), threading.Event()
threading.Thread(target=hold).start()
is_held.wait()
warnings.simplefilter("ignore")  # Of forking where there are threads.
child = os.fork()
if child == 0:
    stream.write("from the child\\n")
    os._exit(0)
os.waitpid(child, 0)
is_over.set()
"""


@pytest.mark.process
def test_a_process_that_was_forked_writes_too() -> None:
    """A forked process writes, whatever the parent's threads did at that moment."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS], stderr=subprocess.PIPE, timeout=30, check=True
    )
    assert done.stderr == b"from the child\n"


def test_a_plugin_that_closes_the_stream_closes_no_other(pipe: tuple[int, int]) -> None:
    """A plugin that calls `sys.stderr.close()` takes no other's log away."""
    reader, end = pipe
    stream = io.TextIOWrapper(
        Stream(Writer(end, print)),  # type: ignore[type-var]
        "utf-8",
        "backslashreplace",
        line_buffering=True,
    )
    stream.close()
    print("lone \ud800", file=stream)
    assert os.read(reader, 100) == b"lone \\ud800\n"


class Silent:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    __str__ = __repr__


class Leaving(Exception):  # noqa: N818 - a value, too
    """A value whose text ends the program."""

    def __repr__(self) -> str:
        raise SystemExit(5)

    __str__ = __repr__


class Odd(str):
    """A text that cannot be formatted."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __format__(self, spec: str) -> str:
        raise RuntimeError("no words")


class UnspeakableError(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


WRONG: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "too many arguments": ("info", ("the order", 5), {}),
    "too few arguments": ("info", ("the order %s %s", 5), {}),
    "an argument of another type": ("info", ("the order %d", "five"), {}),
    "a level": ("log", (20, "the order", 5), {}),
    "an exception where there is none": ("exception", ("the order", 5), {}),
    "the name of the message": ("info", ("the order",), {"event": 5}),
    "the name of a method": ("info", ("the order",), {"method_name": "GET"}),
    "the name of an argument": ("info", ("the order",), {"self": 1, "level": 2, "log_error": 3}),
    "a value that raises": ("info", ("the order",), {"order": Silent()}),
    "a value that exits": ("info", ("the order",), {"order": Leaving()}),
    "a value in a list that exits": ("info", ("the order",), {"order": [Leaving()]}),
    "an argument that exits": ("info", ("the order %s", Leaving()), {}),
    "an error that exits": ("error", ("the order",), {"exc_info": Leaving()}),
    "a name that is a line": ("info", ("the order",), {"a=1\n2026-01-01 forged": 1}),
    "a text that raises": ("info", ("the order",), {"order": Odd("x")}),
    "a message that raises": ("warning", (Odd("the order"),), {}),
    "a value that is too deep": ("info", ("the order",), {"order": nested(100_000)}),
    "a key that raises": ("info", ("the order",), {"order": {"a": {1: {Silent(): 1}}}}),
    "a name with a line's end": ("info", ("the order",), {"order\n": b"\xff"}),
    "half a character": ("info", ("the order",), {"order": "\ud800"}),
    "an error that raises": ("info", ("the order",), {"exc_info": UnspeakableError()}),
    "no error": ("info", ("the order",), {"exc_info": 7}),
    "a group": ("error", ("the order",), {"exc_info": ExceptionGroup("x", [UnspeakableError()])}),
}


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_log_call_is_a_line_and_no_error(
    wrong: str, form: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    """An author's mistake in a log call costs no event, and the rest of the line is logged."""
    method, arguments, values = WRONG[wrong]
    configure_logging(LogSettings(format=form))
    getattr(structlog.get_logger(plugin="billing"), method)(*arguments, **values)
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(" ")]
    assert len(lines) == 1
    assert "the order" in lines[0]
    assert "billing" in lines[0]


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_logger_that_an_author_has_bound_wrongly_writes(
    form: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that was bound long before is a line's as well."""
    configure_logging(LogSettings(format=form))
    structlog.get_logger(plugin="billing").bind(order=Silent()).info("the order")
    assert "the order" in capsys.readouterr().err
