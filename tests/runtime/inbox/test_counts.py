"""The counters of an inbox: one for each fate that an event cannot leave."""

from __future__ import annotations

import attrs
import pytest

from trivet import Fate, InboxStatistics
from trivet._events._fates import ENDED, REFUSED
from trivet._inbox._counts import COUNTERS, Counts


def test_every_final_fate_has_a_counter() -> None:
    """Every fate that ends or refuses an event is a row of the table, and no other is."""
    assert set(COUNTERS) == ENDED | REFUSED
    fields = {field.name for field in attrs.fields(InboxStatistics)}
    assert set(COUNTERS.values()) <= fields


@pytest.mark.parametrize("fate", list(COUNTERS))
def test_a_fate_counts_in_its_own_row(fate: Fate) -> None:
    """An event that comes to a fate is counted there, and nowhere else."""
    counts = Counts()
    counts.add(fate)
    statistics = attrs.asdict(counts.statistics(queued=0, in_flight=0, backing_off=0))
    assert counts.at(fate) == statistics.pop(fate.value) == 1
    assert set(statistics.values()) == {0}


def test_the_events_that_are_alive_stand_beside_the_others() -> None:
    """The statistics show what the inbox says of the events that are alive."""
    counts = Counts()
    counts.accepted = 6
    statistics = counts.statistics(queued=1, in_flight=2, backing_off=3)
    assert (statistics.queued, statistics.in_flight, statistics.backing_off) == (1, 2, 3)
    assert statistics.accepted == 6
