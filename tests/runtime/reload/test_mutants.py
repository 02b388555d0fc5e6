"""The storm is worth something: each of these faults of a reload is noticed in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from traceback import extract_tb
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from trivet._delivery._bounded import BoundedInbox
from trivet._delivery._queue import Queue
from trivet._faults._containment import members
from trivet._inbox._gate import Gate
from trivet._program import _difference
from trivet._reload._cargo import Cargo
from trivet._reload._changeover import Changeover
from trivet._supervision._handover import Retirement
from trivet._supervision._host import Host

from . import storm
from .machine import StormMachine, StuckError

pytestmark = [pytest.mark.model, pytest.mark.timeout(600 + settings().max_examples * 6)]

STORM = Path(storm.__file__)
PROGRAMS = 200
"""Programs that are tried at a time, at most."""
TIMES = 5
"""How often others are tried."""


def is_noticed(fault: BaseException) -> bool:
    """Whether the storm has noticed a fault by itself: a check fails, or something is late.

    An assertion of the program's own is no law.
    """
    if isinstance(fault, StuckError):
        return True
    files = [Path(frame.filename) for frame in extract_tb(fault.__traceback__)]
    if isinstance(fault, AssertionError):
        return files[-1] == STORM
    return isinstance(fault, trio.TooSlowError) and STORM in files


@attrs.frozen
class Mutant:
    """One function of an owner, and the fault in its place, which is given the function first."""

    owner: object
    name: str
    instead: Callable[..., Any]

    def infect(self, patch: pytest.MonkeyPatch) -> None:
        """Let the fault be there."""
        real = getattr(self.owner, self.name)

        def mutant(*args: Any, **more: Any) -> Any:
            return self.instead(real, *args, **more)

        patch.setattr(self.owner, self.name, mutant)


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


async def waits_for_nobody(*_: Any, **__: Any) -> None:
    """Do not wait."""


def always(*_: Any) -> bool:
    """Say yes."""
    return True


def makes_a_new_inbox(real: object, changeover: Any, checked: Any) -> object:
    """Forget the inbox that is there."""
    hosting = changeover._runtime.hosting
    return hosting.inbox(checked, changeover._difference.new.settings)


def keeps_the_inbox(real: Callable[[Host], Retirement], host: Host) -> Retirement:
    """Let the old instance keep its inbox."""
    inbox, retirement = host.inbox, real(host)
    host.inbox = inbox
    return retirement


def puts_back_at_the_end(real: object, queue: Queue, deliveries: list[Any]) -> None:
    """Have events that were in flight overtaken."""
    queue.ready.extend(deliveries)


def counts_anew(real: Callable[..., None], inbox: BoundedInbox, policy: Any, **more: Any) -> None:
    """Begin the inbox's counters at nothing."""
    real(inbox, policy, **more)
    inbox._counts.accepted = 0  # pyright: ignore[reportPrivateUsage]


def exchanges_all_the_same(
    real: Callable[..., Any], old: Any, new: Any, before: Any, after: Any
) -> bool:
    """Count a plugin that listens to types of new code as another one."""
    return real(old, new, before, after) or [*old.listens_to] != [*new.listens_to]


QUICK: dict[str, Mutant] = {
    "the inbox stays shut": Mutant(Gate, "release", nothing),
    "queued events stay of their old class": Mutant(Cargo, "carry", nothing),
    "the inbox is another one": Mutant(Changeover, "_inbox", makes_a_new_inbox),
    "events in flight are overtaken": Mutant(Queue, "put_back", puts_back_at_the_end),
    "a neighbour is replaced": Mutant(_difference, "_is_other", exchanges_all_the_same),
    "an inbox becomes durable": Mutant(Changeover, "_refuse_what_needs_a_restart", nothing),
}
"""Faults that one of a few programs shows."""
SLOW: dict[str, Mutant] = {
    "the inbox goes on handing out": Mutant(Gate, "hold", nothing),
    "nothing comes to rest": Mutant(Changeover, "_rest", waits_for_nobody),
    "a refused reload is not undone": Mutant(Changeover, "_undo", waits_for_nobody),
    "a misfit is not refused": Mutant(Cargo, "refuse_misfits", waits_for_nobody),
    "the old instance ends the inbox": Mutant(Host, "retire", keeps_the_inbox),
    "the counters do not go over": Mutant(BoundedInbox, "heed", counts_anew),
}
"""Faults for which many are tried, by `nox -s storm`."""
MUTANTS = QUICK | SLOW if settings().max_examples >= 1000 else QUICK


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_each_fault_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storm fails with the fault, in one of a few sets of programs."""
    mutant.infect(monkeypatch)
    few = settings(
        max_examples=PROGRAMS,
        stateful_step_count=40,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    for _ in range(TIMES):
        try:
            run_state_machine_as_test(StormMachine, settings=few)
        except BaseException as fault:  # noqa: ASYNC103 - a group may be one of any kind
            if not any(map(is_noticed, members(fault))):
                raise  # It is a fault of the storm itself.
            return  # noqa: ASYNC104
    pytest.fail("no program has noticed it")
