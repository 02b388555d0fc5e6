"""A secret: a text that the program has, and that nobody reads by accident.

Owns the type of a secret setting. A secret shows `***` wherever an object is shown as text, and its
text is masked wherever else the text might appear, for as long as the secret exists.
Never knows where the text comes from.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from ._masking import MASK, Secrets, know


class Secret:
    """A password, a token, or a URL that holds one. Write it as the type of a setting.

    As text it is `***`, in a log line, an f-string or a traceback; JSON encoders refuse it. Also,
    as long as the secret exists, `***` replaces its text in everything that Trivet logs, stores as
    a reason, or answers as a problem: an exception of a library may repeat a URL. The text is found
    in a URL, in quotes, in HTML, as hexadecimal digits and in base64, too. A text shorter than four
    characters is not searched for.

    Two secrets are equal if their texts are; they are compared in constant time. A secret never
    equals a `str`.

    >>> token = Secret("s3cret-t0ken")
    >>> f"{token}", token, token.reveal()
    ('***', Secret('***'), 's3cret-t0ken')

    Args:
        text: the text.
        file: the file that has the text, if it was read from one.
    """

    __slots__ = ("__weakref__", "_file", "_text")

    def __init__(self, text: str, *, file: Path | None = None) -> None:
        self._text = str(text)
        self._file = file
        secrets = Secrets()
        secrets.add(self._text)
        know(self, secrets)

    def reveal(self) -> str:
        """The text, for the library that has to have it; keep the secret, and not the text."""
        return self._text

    @property
    def file(self) -> Path | None:
        """The file that the text was read from; None for a text from elsewhere."""
        return self._file

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = (each.encode("utf-8", "surrogatepass") for each in (self._text, other._text))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> tuple[object, ...]:
        # A copy is made by `__init__`, so that its text is masked, too.
        return _restored, (self._text, self._file)


def _restored(text: str, file: Path | None) -> Secret:
    return Secret(text, file=file)
