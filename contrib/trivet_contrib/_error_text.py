"""An exception as one line of text, for a log, a status and a dead letter's reason.

Owns the length of that line, and which causes are in it.
Never knows the place of the line, nor the secrets in it.
"""

from __future__ import annotations

LONGEST = 300
"""Characters of the text, at most."""


def describe(error: BaseException) -> str:
    """The type of an exception, its text, and in brackets the texts of its causes.

    A text that only repeats an earlier one is left out. If the exception itself has no text, the
    exception that it was raised from, or during, says what happened.

    >>> describe(ValueError("no such  page")), describe(TimeoutError())
    ('ValueError: no such page', 'TimeoutError')
    >>> lost = ConnectionError("lost")
    >>> lost.__cause__ = OSError("reset by peer")
    >>> describe(lost)
    'ConnectionError: lost (reset by peer)'
    """
    texts: list[str] = []
    each: BaseException | None = error
    while each is not None:
        text = _text_of(each)
        if text and not any(text in earlier for earlier in texts):
            texts.append(text)
        each = each.__cause__ or (None if texts else each.__context__)
    name = type(error).__name__
    if not texts:
        return name
    first, *causes = texts
    brackets = f" ({'; '.join(causes)})" if causes else ""
    return f"{name}: {first}{brackets}"[: len(name) + 2 + LONGEST]


def _text_of(error: BaseException) -> str:
    """The text of an exception; empty if an author's `__str__` raises."""
    try:
        return " ".join(str(error)[:LONGEST].split())
    except Exception:
        return ""
