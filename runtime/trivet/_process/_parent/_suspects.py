"""The plugins to which deaths of the program are put down: safe mode.

Owns the evidence that names one plugin, and the number of deaths after which it starts disabled.
Never knows how a plugin is kept from starting: that is the child's.

A death that names nobody clearly, such as a kill from outside, is put down to nobody.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from ._last_words import LastWords

_IMPORT = re.compile(r"the import of '([^']+)'")
_STEP = re.compile(r"(?:initialize|close)\(\) of '([^']+)'")
_NAMED = re.compile(
    r"^plugin '([^']+)'"
    r"(?:: \d+ tasks? ha(?:s|ve) not ended| has broken the event loop)$",
    re.MULTILINE,
)
_FRAME = re.compile(r'^  File "(.+)", line \d+ in ', re.MULTILINE)
_CALL = re.compile(r'^  File "(.+)", line \d+, in ', re.MULTILINE)
_CURRENT = re.compile(r"^Current thread 0x.*\n((?:  .*\n)*)", re.MULTILINE)

FILE, PLUGIN = "file", "plugin"

Suspect = tuple[str, str]
"""`FILE` and the name of an active file, or `PLUGIN` and a plugin's name."""


def suspects_of(words: LastWords, files: Mapping[str, Sequence[str]]) -> list[Suspect]:
    """The plugins that the last words name; none where they name nobody clearly.

    They are several where one file has several plugins, and the stack says no more.

    Args:
        words: the last words of a program that died.
        files: the names of the plugins by the file of their code; a folder ends with `/`.
    """
    imports = _IMPORT.findall(words.note)
    steps = _STEP.findall(words.note)
    if len(imports) == 1 and not steps:
        return [(FILE, imports[0])]
    named = {*_NAMED.findall(words.text)}
    if len(named) == 1:
        return [(PLUGIN, *named)]
    for path in _calls(words.text):
        owners = _owners(path, files)
        if owners:
            at_it = [name for name in owners if name in steps]
            return [(PLUGIN, name) for name in (at_it if len(at_it) == 1 else owners)]
    return [(PLUGIN, steps[0])] if len(steps) == 1 else []


def _calls(text: str) -> Iterator[str]:
    """The files of the calls of the thread that ended the program, the innermost first."""
    current = _CURRENT.search(text)
    if current is not None:
        yield from _FRAME.findall(current[1])
    elif text.startswith("os._exit("):
        yield from reversed(_CALL.findall(text))


def _owners(path: str, files: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if path in files:
        return files[path]
    folders = [each for each in files if each.endswith("/") and path.startswith(each)]
    return files[max(folders, key=len)] if folders else ()


class SafeMode:
    """The deaths that are put down to plugins, and the plugins that start disabled."""

    def __init__(self) -> None:
        self._deaths: Counter[Suspect] = Counter()
        self.disabled: dict[str, dict[str, str]] = {FILE: {}, PLUGIN: {}}
        """The names that start disabled, with the reason, by what they are the names of."""

    def died(self, suspects: Sequence[Suspect], limit: int) -> list[str]:
        """Put a death down to plugins.

        Args:
            suspects: the plugins that the last words name.
            limit: the deaths after which a plugin starts disabled; 0 for never.

        Returns:
            A line for each plugin, or file, that starts disabled from now on.
        """
        lines: list[str] = []
        for kind, name in suspects:
            self._deaths[kind, name] += 1
            count = self._deaths[kind, name]
            if limit and count >= limit and name not in self.disabled[kind]:
                act = "its import" if kind == FILE else "it"
                reason = f"the last {count} deaths of the program are put down to {act}"
                self.disabled[kind][name] = reason
                lines.append(f"{kind} {name!r} starts disabled: {reason}")
        return lines

    def was_well(self) -> None:
        """Forget the deaths so far: the program has served for a while."""
        self._deaths.clear()

    def reset(self) -> None:
        """Give all plugins another chance: an operator has a new program in the old one's place.

        The deaths count on: the next one, of a plugin that started disabled, disables it again.
        """
        self.disabled = {FILE: {}, PLUGIN: {}}
