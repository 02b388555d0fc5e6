"""The files of the page, as they are in the package: HTML, a style sheet, scripts.

Owns their media types, their versions, and what browsers may do with them.
Never knows who asks: nothing in them is a secret, and none of the program's data is in them.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path

import attrs

from .._fast_path import Headers, Text

DIRECTORY = Path(__file__).parent / "static"
INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
"""The content policy: nothing but the service's own files runs, is shown, or is asked."""
GUARDS: Headers = [
    (b"content-security-policy", POLICY.encode("ascii")),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"accept-encoding"),
]
FOR_EVER = b"public, max-age=31536000, immutable"
ASK_FIRST = b"no-cache"


@attrs.frozen
class File:
    """One file, in both forms in which it is sent."""

    media_type: str
    plain: bytes
    packed: bytes
    """The same, compressed by gzip."""
    tag: str
    """A hash of the content."""

    def respond(self, *, accepts: str, known: str, caching: bytes) -> tuple[Text, int]:
        """The response to a browser: the file, or 304 where the browser has it.

        Args:
            accepts: the value of `Accept-Encoding`.
            known: the value of `If-None-Match`.
            caching: the value of `Cache-Control`.
        """
        is_packed = "gzip" in accepts
        tag = f'"{self.tag}{"-gzip" if is_packed else ""}"'
        headers = [*GUARDS, (b"cache-control", caching), (b"etag", tag.encode("ascii"))]
        if tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
            return Text(self.media_type, b"", headers), 304
        if is_packed:
            headers.append((b"content-encoding", b"gzip"))
        return Text(self.media_type, self.packed if is_packed else self.plain, headers), 200


@attrs.frozen
class Files:
    """All files of the page."""

    by_name: Mapping[str, File]
    """The files by their names: in the addresses, those of `vendor` are beside the others."""
    version: str
    """A hash of all of them, which is part of their addresses: a browser may keep them for ever."""


def read_files() -> Files:
    """Read and compress the files, which takes some 20 ms."""
    found = {
        path.name: path.read_bytes() for path in sorted(DIRECTORY.rglob("*")) if path.is_file()
    }
    version = _hash(b"".join(name.encode() + found[name] for name in found))
    # The files are at an address with the version in it, which the page has to know.
    found[INDEX] = found[INDEX].replace(b"{version}", version.encode("ascii"))
    return Files({name: _file(name, data) for name, data in found.items()}, version)


def _file(name: str, data: bytes) -> File:
    return File(MEDIA_TYPES[Path(name).suffix], data, gzip.compress(data, mtime=0), _hash(data))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
