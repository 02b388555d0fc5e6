"""What an operator, an author and an event type may decide, and who of them comes first."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from trivet import DeliverySettings, SupervisionSettings
from trivet._policies import DeliveryPolicy

EVERYTHING = DeliverySettings(
    buffer=7,
    overflow="drop_newest",
    block_for=0.25,
    on_full="drop_oldest",
    concurrency=3,
    delivery_limit=9,
    events=["order_placed"],
)


def test_nothing_is_decided_at_first() -> None:
    """Each setting of a delivery is left to the next in line by default."""
    assert set(attrs.asdict(DeliverySettings()).values()) == {None}


def test_the_defaults_of_a_policy() -> None:
    """Buffer 1000, block for 1 s and then reject, in order, three attempts."""
    assert DeliveryPolicy.decide() == DeliveryPolicy(
        buffer=1000,
        overflow="block",
        block_for=1.0,
        on_full="reject",
        concurrency=1,
        delivery_limit=3,
    )


@pytest.mark.parametrize("key", attrs.fields_dict(DeliveryPolicy))
def test_each_key_is_decided_on_its_own(key: str) -> None:
    """The first layer that says something about a key decides that key, and only that one."""
    said = getattr(EVERYTHING, key)
    layers = DeliverySettings(), DeliverySettings(**{key: said}), DeliverySettings()
    assert DeliveryPolicy.decide(*layers) == attrs.evolve(DeliveryPolicy(), **{key: said})
    first: Any = "reject" if key in ("overflow", "on_full") else 1
    decided = DeliveryPolicy.decide(DeliverySettings(**{key: first}), EVERYTHING)
    rest: dict[str, Any] = {
        name: getattr(EVERYTHING, name) for name in attrs.fields_dict(DeliveryPolicy)
    }
    assert decided == DeliveryPolicy(**{**rest, key: first})


def test_zero_is_a_decision() -> None:
    """Blocking for no time at all is something else than not saying for how long."""
    assert DeliveryPolicy.decide(DeliverySettings(block_for=0), EVERYTHING).block_for == 0


def test_settings_go_over_others() -> None:
    """What the upper settings leave open is the lower ones', names of events included."""
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
        ("overflow", "drop_old"),
        ("on_full", "block"),
    ],
)
def test_impossible_delivery_is_refused(key: str, wrong: Any) -> None:
    """A value that means nothing is an error that names its key, an author's as an operator's."""
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
    """A value that means nothing is an error that names its key."""
    with pytest.raises(ValueError, match=f"'{key}'"):
        SupervisionSettings(**{key: wrong})
