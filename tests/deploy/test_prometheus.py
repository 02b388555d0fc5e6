"""The alerts and the dashboard in docs/deploy, tried with Prometheus and a busy program."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
import yaml

from trivet import (
    BackgroundPlugin,
    DeliverySettings,
    Event,
    EventPlugin,
    PermanentError,
    StallSettings,
    StoreSettings,
    SupervisionSettings,
)
from trivet.testing import open_plugins, serving

from ..contrib.programs import Program, needs, until_it_answers

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
RULES = DEPLOY / "prometheus/trivet.rules.yml"
DASHBOARD = DEPLOY / "grafana/trivet.json"
WITHIN = 60.0
"""Seconds in which each query has an answer."""
CONFIGURATION = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs:
  - job_name: trivet
    static_configs: [{{targets: ["{target}"]}}]
"""


def alerts() -> dict[str, dict[str, Any]]:
    """The rules, by the alert's name."""
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def queries() -> Iterator[str]:
    """The queries of the dashboard, of one program, and those of the rules without their limits."""
    variables = {"$job": "trivet", "$instance": ".*", "$__rate_interval": "1m"}
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    for each in dashboard["templating"]["list"]:
        if each["type"] == "query":
            found += re.findall(r"label_values\((.*), \w+\)", each["definition"])
    for name, value in variables.items():
        found = [query.replace(name, value) for query in found]
    yield from found
    for rule in alerts().values():
        yield re.sub(r" (>|==) (?=[0-9])", r" \1 bool ", rule["expr"])


# What makes each alert fire.


@attrs.frozen
class Case:
    """A program in trouble, as Prometheus sees it: one sample a minute."""

    series: Mapping[str, str]
    """The samples of each series, in promtool's notation."""
    quiet: int
    """The minute at which the alert does not fire yet."""
    firing: int
    """The minute at which it does."""


def inbox(metric: str, **labels: str) -> str:
    """The name of a series about a plugin."""
    labels = {"job": "trivet", "instance": "a:8080", "plugin": "billing", **labels}
    return metric + "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


ENDED = "trivet_inbox_ended_events_total"
CASES = {
    "TrivetNotReady": Case({"trivet_ready": "1x5 0x10"}, quiet=6, firing=8),
    "TrivetRestartLoop": Case({inbox("trivet_plugin_restarts_total"): "0x5 1+1x20"}, 6, 12),
    "TrivetPluginFailed": Case(
        {inbox("trivet_plugin_status", trivet_plugin_status="failed"): "0x5 1x20"}, 6, 8
    ),
    "TrivetInboxStuck": Case(
        {
            inbox("trivet_inbox_events", state="queued"): "3x30",
            inbox(ENDED, fate="handled"): "0+7x5 35x30",
            inbox(ENDED, fate="rejected"): "0+1x30",
        },
        quiet=12,
        firing=20,
    ),
    "TrivetOldEvent": Case(
        {inbox("trivet_inbox_oldest_event_timestamp_seconds"): "60x30"}, quiet=10, firing=14
    ),
    "TrivetDeadLetters": Case({inbox(ENDED, fate="dead_lettered"): "0x5 1x20"}, 4, 8),
    "TrivetEventsRefused": Case({inbox(ENDED, fate="dropped"): "0+1x30"}, quiet=3, firing=10),
    "TrivetStall": Case({inbox("trivet_loop_stalled_seconds_total"): "0x5 1+1x20"}, 4, 10),
    "TrivetStoreFailing": Case({"trivet_store_failing": "0x5 1x5"}, quiet=4, firing=7),
    "TrivetStoreNearLimit": Case({"trivet_store_near_limit": "0x5 1x20"}, quiet=8, firing=14),
}


def test_each_alert_has_a_case() -> None:
    """No alert is shipped that was not seen to fire, and each says what to do."""
    assert CASES.keys() == alerts().keys()
    for rule in alerts().values():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == rule["annotations"].keys()


@pytest.mark.process
@needs("promtool")
@pytest.mark.parametrize("alert", CASES)
async def test_an_alert_fires(alert: str, tmp_path: Path) -> None:
    """The alert fires when its limit has been passed for long enough, and no sooner."""
    case, shown = CASES[alert], f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})'
    samples = [{"series": name, "values": values} for name, values in case.series.items()]
    expected: list[dict[str, object]] = [
        {"expr": shown, "eval_time": f"{case.quiet}m", "exp_samples": []},
        {
            "expr": shown,
            "eval_time": f"{case.firing}m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        },
    ]
    trial: dict[str, object] = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": samples, "promql_expr_test": expected}],
    }
    file = tmp_path / "trial.yml"
    file.write_text(yaml.safe_dump(trial))
    await promtool("test", "rules", str(file))


@pytest.mark.process
@needs("promtool")
async def test_promtool_accepts_the_rules() -> None:
    """Prometheus' own tool finds no fault in the rules."""
    await promtool("check", "rules", str(RULES))


async def promtool(*arguments: str) -> None:
    """Run promtool, which is to find no fault."""
    program = shutil.which("promtool")
    assert program is not None
    done = await trio.run_process(
        [program, *arguments], capture_stdout=True, capture_stderr=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


# A program with some of everything, and a Prometheus.


class Placed(Event):
    pass


class Lost(Event):
    pass


class Billing(EventPlugin[Placed]):
    """Gives up every second event, tries every third again, and holds the loop for the others."""

    delivery = DeliverySettings(durable=True, retry=True, time_limit=30.0)

    async def initialize(self) -> None:
        self.seen = 0

    async def handle_event(self, event: Placed) -> None:
        self.seen += 1
        if self.seen % 2:
            raise PermanentError("no money")
        if self.seen % 4:
            time.sleep(0.06)  # noqa: ASYNC251 - the stall that the loop's meter is to see
            raise ValueError("no network")


class Crashing(BackgroundPlugin):
    supervision = SupervisionSettings(max_restarts=1000)

    async def run(self) -> None:
        await trio.sleep(0.5)
        raise ValueError("again")


@asynccontextmanager
async def scraping(directory: Path, url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A Prometheus that scrapes a program, and a client of its interface."""
    prometheus = Program(directory)
    file = directory / "prometheus.yml"
    file.write_text(CONFIGURATION.format(target=url.removeprefix("http://")))
    listen = f"--web.listen-address=127.0.0.1:{prometheus.port}"
    storage = f"--storage.tsdb.path={directory / 'data'}"
    prometheus.run("prometheus", f"--config.file={file}", storage, listen)
    try:
        with trio.fail_after(WITHIN):
            await until_it_answers(prometheus, "/-/ready")
        base = f"http://127.0.0.1:{prometheus.port}/api/v1"
        async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=30.0) as http:
            yield http
    finally:
        await prometheus.kill()  # noqa: ASYNC102 - it waits for no other task


async def busy(url: str) -> None:
    """Send events and requests, good and bad, until cancelled."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        while True:
            await http.post("/events/placed", json={})
            await http.post("/events/lost", json={})
            await http.get("/nothing")
            await trio.sleep(0.1)


@pytest.mark.process
@needs("prometheus")
async def test_each_query_has_an_answer(tmp_path: Path) -> None:
    """No query of the dashboard and the rules is empty for a program with some of everything."""
    store, stalls = StoreSettings(path=tmp_path / "trivet.db"), StallSettings(warn=0.05)
    plugins = open_plugins(
        Billing, Crashing, event_types=[Lost], store=store, stalls=stalls, patience=math.inf
    )
    async with plugins as runtime, serving(runtime) as url, scraping(tmp_path, url) as http:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy, url)
            empty = [*queries()]
            with trio.move_on_after(WITHIN):
                while empty:
                    while not await answer(http, empty[0]):
                        await trio.sleep(0.1)
                    del empty[0]
            nursery.cancel_scope.cancel()
        assert not empty


async def answer(http: httpx.AsyncClient, query: str) -> list[object]:
    """The series of a query's answer."""
    response = await http.get("/query", params={"query": query})
    assert response.is_success, f"{query}: {response.text}"
    found: list[object] = response.json()["data"]["result"]
    return found
