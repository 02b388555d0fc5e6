"""`trivet top`: the overview of a running program in a terminal, live.

Owns the terminal: its keys, and the thread that reads the program's stream meanwhile.
Never knows the look of the overview.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, cast

import click

from .._faults._errors import ConfigurationError
from ._printing import plain, print_table
from ._running import Place, RunningProgram, place_options
from ._top_facts import HEAD, MARKS, advice_of, rows_of, summary_of

State = dict[str, Any]
PAUSE = 0.1
"""Seconds between two looks at the keys."""
Told = tuple[str, Any] | Exception
"""A server-sent event, or the end of the program's stream."""


@click.command()
@place_options
def top(url: str | None, token_file: Path | None, config: Path | None) -> None:
    """Show the plugins of the running program, live: what is not well comes first.

    The key q, or Ctrl-C, ends it. Where standard output is no terminal, the overview is printed
    once. The token needs the scope `read`; a terminal needs the extra `top`.

    Exit codes: 0 ended, also by the program's stop, 1 refused, 2 usage or configuration, 3 no
    program answers, or it is gone.
    """
    place = Place(url, token_file, config)
    if not sys.stdout.isatty():
        with RunningProgram(place) as program:
            _print(program.ask("GET", "/-/overview"))
        return
    try:
        from ._top_view import shown  # noqa: PLC0415 - rich, which no other command needs
    except ModuleNotFoundError as error:
        reason = "rich is not installed: pip install 'trivet[top]'"
        raise ConfigurationError(reason) from error
    with suppress(KeyboardInterrupt):
        with shown() as show, _keys() as pressed:
            said = _show_all(place, show, pressed)
        if said:
            click.echo(said)


def _print(state: State) -> None:
    """Print the overview once."""
    click.echo(plain(summary_of(state)))
    for level, said in advice_of(state):
        click.echo(plain(f"{MARKS[level]} {said}"))
    print_table([HEAD, *(each.cells for each in rows_of(state))])


def _show_all(place: Place, show: Callable[[State], None], pressed: Callable[[], str]) -> str:
    """Show the state whenever it changes; returns the reason of the end, nothing for a key."""
    told: SimpleQueue[Told] = SimpleQueue()
    Thread(target=read_stream, args=(place, told), daemon=True).start()
    state: State = {}
    while "q" not in pressed():
        try:
            item = told.get(timeout=PAUSE)
        except Empty:
            continue
        if isinstance(item, Exception):
            raise item
        kind, document = item
        if kind == "stopping":
            return "the service stops"
        if kind in ("state", "change"):
            state = document if kind == "state" else merged(state, document)
            show(state)
    return ""


def read_stream(place: Place, told: SimpleQueue[Told]) -> None:
    """Read the program's stream, in a thread; a stream that has had its time is begun anew."""
    try:
        with RunningProgram(place) as program:
            while True:
                for each in program.events("/-/live", last=["again", "stopping"]):
                    told.put(each)
    except Exception as error:
        told.put(error)


def merged(document: Any, patch: Any) -> Any:
    """A document changed by a JSON merge patch, as in RFC 7396.

    >>> merged({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"d": 3}})
    {'b': {'c': 2, 'd': 3}}
    """
    if not isinstance(patch, dict):
        return patch
    changes = cast("dict[str, Any]", patch)
    found = dict(cast("dict[str, Any]", document)) if isinstance(document, dict) else {}
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


@contextmanager
def _keys() -> Generator[Callable[[], str]]:
    """Have the terminal give each key at once; yields a function that says which were pressed."""
    if not sys.stdin.isatty():
        yield lambda: ""
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def pressed() -> str:
        is_there, _, _ = select.select([number], [], [], 0)
        return os.read(number, 100).decode(errors="replace") if is_there else ""

    tty.setcbreak(number)
    try:
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
