"""`trivet set` and `unset`: settings of a running program, changed and written to its overlay.

Owns the way from `KEY=VALUE` to a merge patch.
Never knows settings: the running program checks them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import msgspec

from .._program._values import is_table
from ._options import json_option, reason_option
from ._orders import lines_about, tell
from ._running import Place, RunningProgram, place_options

F = TypeVar("F", bound=Callable[..., Any])
PATCH_TYPE = "application/merge-patch+json"


def _changing(command: F) -> F:
    """Give a command the options of a change."""
    for option in (place_options, json_option, reason_option):
        command = option(command)
    return command


@click.command("set")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...")
@_changing
def set_settings(changes: tuple[str, ...], **options: Any) -> None:
    """Change settings of the running program, and write them to its overlay.

    A KEY is as in `trivet settings`: `max_body`, `plugins.billing.currency`. A VALUE is TOML; one
    that is not is text. All changes hold, or none; what needs a restart is told. A secret does not
    belong here, where every user of the machine can read it, but in a file:
    `plugins.NAME.token.file=/run/secrets/token`.

    Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers.
    """
    patch: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise click.UsageError(f"{change!r}: write KEY=VALUE")
        _add(patch, _steps(key), _value(value, key))
    _send(patch, **options)


@click.command("unset")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@_changing
def unset_settings(keys: tuple[str, ...], **options: Any) -> None:
    """Remove settings from the overlay of the running program.

    They have the values of the settings' file again, or their defaults. A key that is no setting,
    nor in the overlay, is refused.

    Exit codes: 0 done, 1 refused, 2 usage or configuration, 3 no program answers.
    """
    patch: dict[str, Any] = {}
    for key in keys:
        _add(patch, _steps(key), None)
    _send(patch, **options)


def _steps(key: str) -> list[str]:
    """The keys of the tables that a dotted key leads through; TOML's quotes are known.

    >>> _steps('event_rates."a.b"')
    ['event_rates', 'a.b']
    """
    try:
        table: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{key!r} is no key: {error}") from error
    steps: list[str] = []
    while is_table(table):
        ((step, table),) = table.items()
        steps.append(step)
    return steps


def _value(text: str, key: str) -> object:
    """The value of a text: what TOML makes of it, or the text.

    >>> _value("[1, 2.5]", ""), _value("EUR", ""), _value("true", "")
    ([1, 2.5], 'EUR', True)
    """
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    if any(isinstance(each, (datetime, date, time)) for each in _all_within(value)):
        raise click.UsageError(f"{key}: JSON has no dates: write it in the settings' file")
    return value


def _all_within(value: object) -> Iterable[object]:
    inner: Iterable[object] = ()
    if is_table(value):
        inner = value.values()
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    yield value
    for each in inner:
        yield from _all_within(each)


def _add(patch: dict[str, Any], steps: list[str], value: object) -> None:
    *outer, last = steps
    for step in outer:
        inner: object = patch.setdefault(step, {})
        if not is_table(inner):
            raise click.UsageError(f"{'.'.join(steps)}: {step} is given another value, too")
        patch = inner
    if last in patch:
        raise click.UsageError(f"{'.'.join(steps)} is given twice")
    patch[last] = value


def _send(
    patch: dict[str, Any],
    *,
    reason: str | None,
    as_json: bool,
    url: str | None,
    token_file: Path | None,
    config: Path | None,
) -> None:
    content = msgspec.json.encode(patch)
    with RunningProgram(Place(url, token_file, config)) as program:
        document = program.ask(
            "PATCH",
            "/-/settings",
            {"reason": reason},
            content,
            PATCH_TYPE,
            {"If-Match": "*"},  # The keys are named one by one, whatever the others are.
        )
    tell(document, as_json, *lines_about(document["changes"]))
