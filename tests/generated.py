"""The parts of the documents that the code says: `python -m tests.generated` writes them anew.

Owns how settings, fates, counters, error codes and commands become Markdown.
Never knows the rest of a page: a part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import attrs
import click

from trivet import (
    DeliveryPolicy,
    DeliverySettings,
    Fate,
    InboxStatistics,
    Settings,
    SupervisionSettings,
)
from trivet._cli import main as trivet_command
from trivet._inbox._counts import Counts
from trivet._inbox._histogram import Distribution
from trivet._inbox._latencies import LatencyStatistics
from trivet._loop._usage import Usage
from trivet._plugins._status import Status
from trivet._program._json_schema import attribute_docstrings
from trivet._program._settings import NOT_READ
from trivet._web._metric_families import families
from trivet._web._problems import STATUS
from trivet._web._snapshot import PluginSnapshot, Snapshot
from trivet._web._traffic import ServerStatistics, TrafficStatistics

from . import public_api
from .generated_reference import connectors, events, names
from .tables import NOTHING, as_toml, keys, prose, table

ROOT = Path(__file__).parents[1]
PART = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
NO_KEYS = {"plugins", *NOT_READ}
"""Fields of `Settings` that are no key at the top of the file."""
EXAMPLE = Snapshot(
    service="shop",
    version="1.0",
    is_ready=True,
    plugins=[
        PluginSnapshot(
            name="billing",
            status=Status.RUNNING,
            since=0.0,
            restarts=0,
            critical=False,
            usage=Usage(busy=0.0, share=0.0, cpu=0.0, longest=0.0, stalls=0, stalled=0.0),
            inbox=Counts().statistics(queued=0, in_flight=0, backing_off=0),
            oldest=0.0,
            latencies=LatencyStatistics(
                {"order_placed": Distribution()}, {"order_placed": Distribution()}
            ),
        )
    ],
    service_usage=None,
    unrouted={"order_placed": 1},
    store_bytes=0,
    store_fails=False,
    store_is_near_limit=False,
    store_commits=0,
    store_waiting=0,
    lost_lines=0,
    traffic=TrafficStatistics(
        {("POST:/events/{name}", 2): Distribution()},
        {("POST:/events/{name}", "not_accepted"): 1},
        0,
        ServerStatistics(),
    ),
)
"""A program with a sample of each metric."""


def pages() -> list[Path]:
    """The documents that have generated parts."""
    files = sorted(ROOT.glob("docs/*.md"))
    return [file for file in files if PART.search(file.read_text("utf-8"))]


def regenerated(text: str) -> str:
    """A page's text with its generated parts as they should be."""
    return PART.sub(lambda part: f"{part[1]}{part[2]}\n{PARTS[part[1]]()}\n", text)


def settings() -> str:
    """The keys of the settings' file, table by table."""
    hints = get_type_hints(Settings)
    fields = [field for field in attrs.fields(Settings) if field.name not in NO_KEYS]
    tables: dict[str, type] = {}
    arrays: dict[str, type] = {}
    for field in fields:
        hint = hints[field.name]
        if attrs.has(hint):
            tables[field.name] = hint
        elif (inner := get_args(hint)) and attrs.has(inner[0]):
            arrays[field.name] = inner[0]
    own = [field for field in fields if field.name not in {*tables, *arrays}]
    parts = [keys(Settings, own)]
    for name, cls in (*arrays.items(), *tables.items()):
        head = f"`[[{name}]]`" if name in arrays else f"`[{name}]`"
        about = prose(cls).replace(f" ({head})", "")
        if name in tables:
            about += f" In the environment: `TRIVET_{name.upper()}__` and the key in capitals."
        parts += [f"### {head}\n\n{about}\n", keys(cls, attrs.fields(cls))]
    return "\n".join(parts)


def delivery() -> str:
    """The keys of `[plugins.NAME.delivery]`, whose defaults may depend on `durable`."""
    plain = DeliveryPolicy.decide()
    durable = DeliveryPolicy.decide(DeliverySettings(durable=True))

    def default(field: attrs.Attribute[Any]) -> str:
        if not hasattr(plain, field.name):
            return NOTHING
        values = [as_toml(getattr(policy, field.name)) for policy in (plain, durable)]
        if field.name == "durable" or values[0] == values[1]:
            return values[0]
        return f"{values[0]}; if durable: {values[1]}"

    return keys(DeliverySettings, attrs.fields(DeliverySettings), default)


def supervision() -> str:
    """The keys of `[plugins.NAME.supervision]`."""
    return keys(SupervisionSettings, attrs.fields(SupervisionSettings))


def fates() -> str:
    """Every fate of an event."""
    about = attribute_docstrings(Fate)
    return table(["fate", "meaning"], [[f"`{fate.value}`", about[fate.name]] for fate in Fate])


def counters() -> str:
    """The counters of an inbox."""
    about = attribute_docstrings(InboxStatistics)
    names = [field.name for field in attrs.fields(InboxStatistics)]
    return table(["counter", "meaning"], [[f"`{name}`", about[name]] for name in names])


def errors() -> str:
    """The error codes of HTTP, by their statuses."""
    codes: defaultdict[int, list[str]] = defaultdict(list)
    for code, status in STATUS.items():
        codes[status.value].append(f"`{code}`")
    rows = [[str(status), ", ".join(codes[status])] for status in sorted(codes)]
    return table(["status", "`error_code`"], rows)


def commands() -> str:
    """The help of each command."""
    return "\n".join(
        f"## `{context.command_path}`\n\n```text\n{context.get_help()}\n```\n"
        for context in _contexts(trivet_command, "trivet")
    )


def metrics() -> str:
    """The metrics: their names, labels, types and descriptions."""
    rows = [
        [
            f"`{family.name if family.type == 'histogram' else sample.name}`",
            ", ".join(label for label in sample.labels if label != "le"),
            family.type,
            family.documentation,
        ]
        for family in families(EXAMPLE)
        for sample in family.samples[:1]
    ]
    return table(["series", "labels", "type", "what it is"], rows)


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part
    for part in (
        *(settings, delivery, supervision, connectors, fates, counters, metrics, errors),
        *(commands, events, names),
    )
}


def _contexts(command: click.Command, path: str) -> Iterator[click.Context]:
    context = click.Context(command, info_name=path, terminal_width=80)
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (inner := command.get_command(context, name)) is not None:
                yield from _contexts(inner, f"{path} {name}")


if __name__ == "__main__":
    public_api.FILE.write_text(public_api.interface(), "utf-8")
    for page in pages():
        page.write_text(regenerated(page.read_text("utf-8")), "utf-8")
