"""A child's side of the pipes to its parent."""

from __future__ import annotations

import json
import os
from contextlib import suppress

import pytest

from trivet._process._lifeline import Lifeline, inherited_lifeline
from trivet._process._parent._child import Child
from trivet._process._parent._last_words import create_report
from trivet._process._parent._wire import LIFELINE
from trivet._process._report import Report
from trivet._process._sockets import Listeners


def test_a_child_that_was_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child finds its descriptors in the environment; its own children find nothing."""
    stop_read, stop_write = os.pipe()
    beat_read, beat_write = os.pipe()
    report = create_report()
    descriptors = (stop_read, beat_write, report)
    for descriptor in (stop_read, beat_write, report):
        os.set_inheritable(descriptor, True)
    given = {"stop_read": stop_read, "beat_write": beat_write, "report": report}
    sockets = {"public": [0], "management": [1], "addresses": ["bind unix:/x"], "waits": True}
    told = {"disabled": {"plugin": {"billing": "three deaths"}}, "deaths": [{"pid": 1}]}
    monkeypatch.setenv(LIFELINE, json.dumps(given | sockets | told))
    lifeline = inherited_lifeline()
    assert lifeline is not None
    assert (lifeline.stop_read, lifeline.beat_write) == descriptors[:2]
    assert (lifeline.report.descriptor, lifeline.listeners) == (report, Listeners([0], [1]))
    assert (lifeline.addresses, lifeline.waits) == (["bind unix:/x"], True)
    assert {"disabled": lifeline.disabled, "deaths": lifeline.deaths} == told
    assert LIFELINE not in os.environ
    assert inherited_lifeline() is None
    assert not any(map(os.get_inheritable, (stop_read, beat_write, report)))
    assert not os.get_blocking(beat_write)
    for descriptor in (stop_read, stop_write, beat_read, beat_write, report):
        os.close(descriptor)


def test_the_parent_reads_what_the_child_sends() -> None:
    """Heartbeats, a verdict and a clean exit arrive as such."""
    beat_read, beat_write = os.pipe()
    stop_read, stop_write = os.pipe()
    child = Child(0, stop_write, beat_read, create_report())
    lifeline = Lifeline(stop_read, beat_write, Listeners([], []), Report(None), [])
    assert not child.read_beats()
    lifeline.send_heartbeat()
    assert child.read_beats()
    assert child.verdict is None
    lifeline.send_verdict(4)
    lifeline.send_clean_exit()
    assert child.exit_code(0) == 0
    assert child.verdict == 4
    child.close()
    for descriptor in (stop_read, beat_write, lifeline.report.descriptor):
        os.close(descriptor)


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "without a reader"])
def test_a_parent_that_does_not_read_is_no_error(*, is_full: bool) -> None:
    """The pipe may be full, and the parent may be gone."""
    beat_read, beat_write = os.pipe()
    os.set_blocking(beat_write, False)
    if is_full:
        with suppress(BlockingIOError):
            while os.write(beat_write, b"." * 4096):
                pass
    else:
        os.close(beat_read)
    lifeline = Lifeline(-1, beat_write, Listeners([], []), Report(None), [])
    lifeline.send_heartbeat()
    os.close(beat_write)
    os.close(lifeline.report.descriptor)
    if is_full:
        os.close(beat_read)
