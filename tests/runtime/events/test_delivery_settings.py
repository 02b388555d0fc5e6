"""Delivery and supervision settings: their layers, defaults and limits."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from trivet import DeliveryPolicy, DeliverySettings, Event, EventPlugin, SupervisionSettings
from trivet.testing import open_plugins

EVERYTHING = DeliverySettings(
    durable=True,
    buffer=7,
    buffer_bytes=70,
    overflow="drop_newest",
    block_for=0.25,
    on_full="drop_oldest",
    concurrency=3,
    ordering_key="order_id",
    delivery_limit=9,
    time_limit=4.0,
    retry=False,
    retry_initial=2.0,
    retry_multiplier=3.0,
    retry_max=20.0,
    retry_for=200.0,
    max_attempts=8,
    deduplicate_for=60.0,
    batch_size=10,
    batch_age=0.5,
    batch_bytes=1000,
    filter={"order_id": "o-1"},
    events=["order_placed"],
)
FIRST: dict[str, Any] = {
    "durable": False,
    "overflow": "reject",
    "on_full": "reject",
    "ordering_key": "total",
    "retry": True,
    "filter": {"total": 1},
}
"""A value of the first layer for each key; a number is 1."""


def test_nothing_is_decided_at_first() -> None:
    """Each delivery setting is left to the next layer by default."""
    assert set(attrs.asdict(DeliverySettings()).values()) == {None}


def test_the_defaults_of_a_policy() -> None:
    """In memory: 1000 events and 64 MiB, block for 1 s and then reject, in order, one attempt."""
    assert DeliveryPolicy.decide() == DeliveryPolicy(
        durable=False,
        buffer=1000,
        buffer_bytes=64 * 1024 * 1024,
        overflow="block",
        block_for=1.0,
        on_full="reject",
        concurrency=1,
        ordering_key=None,
        delivery_limit=3,
        time_limit=math.inf,
        retry=False,
        deduplicate_for=300.0,
        batch_size=100,
        batch_age=1.0,
        batch_bytes=None,
        filter=None,
    )


def test_the_defaults_of_a_durable_inbox() -> None:
    """On disk: no limit but the store's; attempts of 5 s for 300 s, as in the Collector."""
    assert DeliveryPolicy.decide(DeliverySettings(durable=True)) == DeliveryPolicy(
        durable=True,
        buffer=None,
        time_limit=5.0,
        retry=True,
        retry_initial=5.0,
        retry_multiplier=1.5,
        retry_max=30.0,
        retry_for=300.0,
        max_attempts=None,
    )


def test_a_time_limit_of_zero_is_none() -> None:
    """An operator can take away the time limit of a durable inbox."""
    policy = DeliveryPolicy.decide(DeliverySettings(durable=True, time_limit=0))
    assert policy.time_limit == math.inf


def test_retries_in_memory_have_a_time_limit_too() -> None:
    """An attempt has a time limit wherever events are tried again."""
    policy = DeliveryPolicy.decide(DeliverySettings(retry=True))
    assert (policy.durable, policy.buffer, policy.time_limit) == (False, 1000, 5.0)


@pytest.mark.parametrize("key", attrs.fields_dict(DeliveryPolicy))
def test_each_key_is_decided_on_its_own(key: str) -> None:
    """The first layer that gives a key decides that key, and only that one."""
    first = FIRST.get(key, 1)
    decided = DeliveryPolicy.decide(
        DeliverySettings(), DeliverySettings(**{key: first}), EVERYTHING
    )
    rest: dict[str, Any] = {
        name: getattr(EVERYTHING, name) for name in attrs.fields_dict(DeliveryPolicy)
    }
    assert decided == DeliveryPolicy(**{**rest, key: first})


def test_zero_is_a_decision() -> None:
    """A `block_for` of 0 is a decision, and not a key that was left out."""
    assert DeliveryPolicy.decide(DeliverySettings(block_for=0), EVERYTHING).block_for == 0


def test_settings_go_over_others() -> None:
    """The upper settings leave open keys to the lower ones, `events` included."""
    assert DeliverySettings().over(EVERYTHING) == EVERYTHING
    assert EVERYTHING.over(DeliverySettings(buffer=1, events=["a"])) == EVERYTHING
    assert DeliverySettings(buffer=1).over(EVERYTHING) == attrs.evolve(EVERYTHING, buffer=1)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("buffer", 0),
        ("block_for", -0.1),
        ("concurrency", 0),
        ("delivery_limit", 0),
        ("time_limit", -1),
        ("retry_initial", -1),
        ("retry_multiplier", 0.5),
        ("retry_multiplier", 1e6),
        ("retry_max", -1),
        ("retry_for", -1),
        ("max_attempts", 0),
        ("deduplicate_for", -1),
        ("batch_size", 0),
        ("batch_age", 0),
        ("batch_bytes", 0),
        ("overflow", "drop_old"),
        ("on_full", "block"),
    ],
)
def test_impossible_delivery_is_refused(key: str, wrong: Any) -> None:
    """An impossible value is an error that names its key, the author's or the operator's."""
    with pytest.raises(ValueError, match=f"'{key}'"):
        DeliverySettings(**{key: wrong})


def test_the_defaults_of_supervision() -> None:
    """Five restarts in 30 s, from 0.5 s to 30 s apart; not critical; a failed start is fatal."""
    assert SupervisionSettings() == SupervisionSettings(
        critical=False,
        on_start_failure="fail",
        max_restarts=5,
        restart_window=30.0,
        backoff_initial=0.5,
        backoff_max=30.0,
    )


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("max_restarts", -1),
        ("restart_window", 0),
        ("backoff_initial", -1),
        ("backoff_max", -1),
    ],
)
def test_impossible_supervision_is_refused(key: str, wrong: Any) -> None:
    """An impossible value is an error that names its key."""
    with pytest.raises(ValueError, match=f"'{key}'"):
        SupervisionSettings(**{key: wrong})


async def test_a_plugin_sees_its_policy() -> None:
    """A plugin's policy has values of the operator, the author and the event type."""

    class Placed(Event, delivery=DeliverySettings(buffer=3, block_for=3)):
        pass

    class Billing(EventPlugin[Placed]):
        delivery = DeliverySettings(buffer=2, concurrency=2)

        async def handle_event(self, event: Placed) -> None:
            pass

    settings = {"billing": {"delivery": {"concurrency": 1}}}
    async with open_plugins(Billing, settings=settings) as runtime:
        policy = runtime.get(Billing).inbox.policy
    assert (policy.concurrency, policy.buffer, policy.block_for) == (1, 2, 3)
