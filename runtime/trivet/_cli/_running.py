"""A running program, as a command asks it: over HTTP, by its address and an operator's token.

Owns the search for the address and the token, and the error of a request that was refused.
Never knows what is asked for.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from ssl import create_default_context
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar, cast
from urllib.parse import urlencode, urlsplit

import attrs
import click
import msgspec

from .._access._hosts import is_unix
from .._faults._errors import ConfigurationError, TrivetError
from .._program._addresses import is_of_systemd
from .._program._reading import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE, load_settings
from .._program._settings import Settings
from ._options import config_option

F = TypeVar("F", bound=Callable[..., Any])
Content = bytes | Iterable[bytes]

EVENT_STREAM = "text/event-stream"
ANSWER_WITHIN = 120.0
"""Seconds without a sign of the program: a replay of a million dead letters takes its time."""


class RefusedError(TrivetError):
    """The program has refused what a command asked it for."""

    exit_code: ClassVar[int] = 1


class UnreachableError(TrivetError):
    """No program has answered at the address."""

    exit_code: ClassVar[int] = 3


@attrs.frozen
class Place:
    """The place of a running program, as the command line and the environment name it."""

    url: str | None
    token_file: Path | None
    config: Path | None

    @property
    def is_named(self) -> bool:
        """Whether an address is given, so that no file is meant."""
        return self.url is not None


def place_options(command: F) -> F:
    """Give a command the options that say which running program it asks; see `Place`."""
    return address_options(config_option(command))


def address_options(command: F) -> F:
    """Give a command the options with the address and the token of a running program."""
    for option in (
        click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            envvar=TOKEN_FILE_VARIABLE,
            help="A file with the operator's token; or the token is in the variable "
            f"{TOKEN_VARIABLE}.",
        ),
        click.option(
            "--url",
            envvar=URL_VARIABLE,
            metavar="URL",
            help="The address of the running program: http://HOST:PORT, https://HOST:PORT or "
            f"unix:/PATH; also {URL_VARIABLE}. By default that of the settings' file.",
        ),
    ):
        command = option(command)
    return command


class RunningProgram:
    """A connection to a running program, to be left with `with`.

    Args:
        place: the program's.
        for_management: whether operators are answered at another address, if the settings have one.

    Raises:
        ConfigurationError: there is no address, or none that can be, or no token where one is said
            to be.
    """

    def __init__(self, place: Place, *, for_management: bool = True) -> None:
        self._origin = ""
        if place.url is None:
            self._address, self._origin = _address_in(load_settings(place.config), for_management)
        else:
            self._address = place.url
        token = _token(place)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._connection = _connection(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        content: Content | None = None,
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request; returns the document of the answer.

        Args:
            method: the method.
            path: the path, whose variable parts are quoted.
            query: names and values, or lists of values; None for a value that is left out.
            content: the body, if there is one, as a whole or in pieces.
            media_type: its media type.
            headers: further headers.

        Raises:
            RefusedError: the answer is a problem.
            UnreachableError: nothing answers, or no program of Trivet's does.
        """
        kind = {} if media_type is None else {"Content-Type": media_type}
        with self._reached("no program answers"):
            answer = self._answer(method, path, query, content, {**kind, **(headers or {})})
            body = answer.read()
        return self._document(answer, body)

    def events(
        self, path: str, query: Mapping[str, object] | None = None, *, last: Collection[str]
    ) -> Iterator[tuple[str, Any]]:
        """The server-sent events at a path, each with its name and its document, until they end.

        Args:
            path: the path.
            query: as for `ask`.
            last: the names of the events one of which ends a stream that is whole.

        Raises:
            RefusedError: the answer is a problem.
            UnreachableError: nothing answers, or the program has gone.
        """
        with self._reached("no program answers"):
            answer = self._answer("GET", path, query)
        if answer.headers.get_content_type() != EVENT_STREAM:
            with self._reached("no program answers"):
                body = answer.read()
            self._document(answer, body)
            raise self._stranger(answer)
        name = ""
        while True:
            line = self._line(answer)
            if not line.endswith(b"\n"):  # `http.client` does not tell that a stream was cut.
                raise UnreachableError(f"{self._address}: the program has gone{self._origin}")
            field, _, value = line.rstrip(b"\r\n").partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                yield name, msgspec.json.decode(value)
                if name in last:
                    break
        with suppress(OSError, HTTPException):
            answer.read()  # The end, so that the connection may be used again.

    def _line(self, answer: HTTPResponse) -> bytes:
        """The next line of a stream, at once when it has come; nothing at its end."""
        with self._reached("the program has gone"):
            return answer.readline()

    @contextmanager
    def _reached(self, what: str) -> Generator[None]:
        """Tell what a lost connection means."""
        try:
            yield
        except (OSError, HTTPException) as error:
            said = str(error) or type(error).__name__
            raise UnreachableError(f"{self._address}: {what}: {said}{self._origin}") from error

    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a request; returns the answer as far as its head."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(given, doseq=True)}" if given else path
        with suppress(BrokenPipeError, ConnectionResetError):  # It may have answered already.
            self._connection.request(method, target, content, {**self._headers, **(headers or {})})
        return self._connection.getresponse()

    def _document(self, answer: HTTPResponse, body: bytes) -> Any:
        """The document of an answer."""
        try:
            document: Any = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise self._stranger(answer) from error
        if answer.status >= HTTPStatus.BAD_REQUEST:
            lacks_token = answer.status == HTTPStatus.UNAUTHORIZED and not self._headers
            advice = f": set {TOKEN_VARIABLE}, or give --token-file" if lacks_token else ""
            raise RefusedError(_reason(document, answer.status, advice))
        return document

    def _stranger(self, answer: HTTPResponse) -> UnreachableError:
        """The error of an answer that no program of Trivet's gives."""
        said = f"{self._address}: what answers is no program of Trivet's: {answer.status}"
        return UnreachableError(said)


class _UnixConnection(HTTPConnection):
    """A connection to a Unix socket.

    Args:
        path: the socket's.
    """

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_WITHIN)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket; called before the first request."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(address: str) -> HTTPConnection:
    """A connection to an address, not yet open."""
    if is_unix(address):
        return _UnixConnection(address.removeprefix("unix:"))
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
        said = "is no http://HOST:PORT, https://HOST:PORT or unix:/PATH"
        raise ConfigurationError(f"the address of the program, {address!r}, {said}")
    if parts.scheme == "http":
        return HTTPConnection(host, port, timeout=ANSWER_WITHIN)
    return HTTPSConnection(host, port, timeout=ANSWER_WITHIN, context=create_default_context())


def _reason(document: Any, status: int, advice: str) -> str:
    if not isinstance(document, dict) or "detail" not in document:
        return f"the program has answered {status}{advice}"
    problem = cast("dict[str, Any]", document)
    said = f"{problem['detail']}{advice} ({status} {problem.get('error_code', 'problem')})"
    faults: list[str] = problem.get("faults", [])
    return "\n".join([said, *faults]) if len(faults) > 1 else said


def _token(place: Place) -> str | None:
    """The operator's token; None where none is given."""
    if place.token_file is None:
        token, source = os.environ.get(TOKEN_VARIABLE) or None, TOKEN_VARIABLE
    else:
        token, source = _read(place.token_file), str(place.token_file)
    if token is not None and not (token.isascii() and token.isprintable()):
        raise ConfigurationError(f"{source}: a token is ASCII, in one line")
    return token


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file}: the token cannot be read: {error}") from error


def _address_in(settings: Settings, for_management: bool) -> tuple[str, str]:
    """The URL of the first address in the settings, and a clause that says where it is written."""
    management = settings.management_addresses if for_management else []
    key, named = ("management_bind", management) if management else ("bind", settings.addresses)
    place = settings.sources.get(key) or settings.written.place(key, settings.file)
    origin = f"; that is the address by {place}: if the program listens at another, give --url"
    for address in named:
        host, _, port = address.rpartition(":")
        if is_unix(address):
            return address, origin
        if not is_of_systemd(address) and port != "0":
            host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
            scheme = "http" if settings.tls.certificate is None else "https"
            return f"{scheme}://{host}:{port}", origin
    raise ConfigurationError(
        f"the settings do not say the address of the running program ({', '.join(named)}): "
        f"give --url, or {URL_VARIABLE}"
    )
