"""The escalation of a stop, as data."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import hypercorn.config
from quart import Quart

from trivet import Settings
from trivet._process._escalation import DUMP_AFTER, ESCALATION, KERNEL, THREAD

PAGE = Path(__file__).parents[3] / "docs" / "stopping.md"


def test_the_stop_fits_into_what_orchestrators_give() -> None:
    """The default stages and the escalation sum to 25 s; Kubernetes kills after 30 s."""
    assert Settings().shutdown.budget + ESCALATION[-1].after == 25.0


def test_each_step_has_time_before_the_next() -> None:
    """The steps act in their order, and faulthandler writes before the kill."""
    assert all(before.after < step.after for before, step in pairwise(ESCALATION))
    assert THREAD.after < DUMP_AFTER < KERNEL.after


def test_the_documents_name_every_step_and_its_code() -> None:
    """The page has a row for each step, in this order."""
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    codes = [row.rsplit("|", 2)[1].strip() for row in rows]
    steps = [str(step.exit_code) for step in ESCALATION]
    assert [code for code in codes if code in steps] == steps


def test_the_time_outs_of_the_stack_leave_room() -> None:
    """Under hypercorn's own command the lifespan may take as long as the stop needs; Quart, which
    allows its own hooks five seconds, has nothing of ours to wait for."""
    assert hypercorn.config.Config().shutdown_timeout >= Settings().shutdown.budget
    assert Quart("any").config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] <= Settings().shutdown.requests
