"""The overview of a program in words and numbers, for `trivet top`.

Owns the order of the plugins, and how numbers are written.
Never knows where it is shown, nor how the program finds out what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from .._plugins._status import Status

HEAD = (
    "PLUGIN",
    "STATUS",
    "IN/S",
    "OUT/S",
    "WAITING",
    "OLDEST",
    "P50",
    "P99",
    "BUSY",
    "RESTARTS",
)
LOOP = 3
"""Starts within five minutes from which a plugin that has failed is in a crash loop."""

Tone = Literal["bad", "warn", "quiet", "good"]
TONES: tuple[Tone, ...] = ("bad", "warn", "quiet", "good")
"""From what is seen to first to what is well."""
MARKS: Mapping[str, str] = {"bad": "!!", "warn": "!", "note": "-"}
"""The beginnings of the lines that say what to do, by their level."""
_TONE_OF: Mapping[str, Tone] = {
    Status.RUNNING: "good",
    Status.FAILED: "bad",
    Status.DISABLED: "quiet",
    Status.STOPPED: "quiet",
}


@attrs.frozen
class Row:
    """One plugin."""

    name: str
    tone: Tone
    cells: tuple[str, ...]
    """The texts below `HEAD`."""


def rows_of(state: Mapping[str, Any]) -> list[Row]:
    """The plugins, those that are not well first."""
    rows = [_row(name, each, state["at"]) for name, each in state["plugins"].items()]
    return sorted(rows, key=lambda row: (TONES.index(row.tone), row.name))


def _row(name: str, plugin: Mapping[str, Any], at: float) -> Row:
    is_looping = "error" in plugin and plugin.get("starts", 0) >= LOOP
    status = "crash loop" if is_looping else plugin["status"].replace("_", " ")
    tone: Tone = "bad" if is_looping else _TONE_OF.get(plugin["status"], "warn")
    waiting = sum(plugin.get(each, 0) for each in ("queued", "in_flight", "backing_off"))
    has_inbox = "queued" in plugin
    cells = (
        name,
        status + (", paused" if plugin.get("paused") else ""),
        _rate(plugin["in"]) if has_inbox else "",
        _rate(plugin["out"]) if has_inbox else "",
        str(waiting) if has_inbox else "",
        duration(at - plugin["oldest"]) if "oldest" in plugin else "",
        duration(plugin["p50"]) if "p50" in plugin else "",
        duration(plugin["p99"]) if "p99" in plugin else "",
        f"{plugin['busy']:.1%}",
        str(plugin["restarts"]),
    )
    return Row(name, tone, cells)


def summary_of(state: Mapping[str, Any]) -> str:
    """The service in one line."""
    up = sum(each["status"] in ("running", "degraded") for each in state["plugins"].values())
    status = state["status"].replace("_", " ")
    return (
        f"{state['service']}: {status}, {up} of {len(state['plugins'])} plugins up, loop "
        f"{state['busy']:.1%} busy, serving for {duration(state['at'] - state['since'])}"
    )


def advice_of(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The faults, the most urgent first: the level, and a line with what to do."""
    told = [("bad", f"Not ready: {reason}") for reason in state.get("reasons", ())]
    return told + [(each["level"], f"{each['about']} {each['remedy']}") for each in state["advice"]]


def _rate(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """A time in its unit.

    >>> duration(0.0123), duration(3.14), duration(75), duration(7300)
    ('12 ms', '3.1 s', '75 s', '2 h')
    """
    if seconds < 120:
        value, unit = (seconds, "s") if seconds >= 1 else (max(0.0, seconds) * 1000, "ms")
        return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
