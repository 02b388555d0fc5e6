"""A short run of `nox -s fuzz`, and the inputs that have found faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from .__main__ import BATCH, Report, judge, pay, run
from .inputs import Visit, settings_file, visit
from .service import Service

CORPUS = Path(__file__).with_name("corpus")
"""Bytes that once made a service answer 500, or log a traceback."""


def test_a_number_is_an_input() -> None:
    """The same seed and number make the same input; other numbers make other inputs."""
    assert visit(1, 2) == visit(1, 2) != visit(2, 1)
    assert settings_file(1, 2) == settings_file(1, 2) != settings_file(1, 3)


@pytest.mark.process
async def test_clients_that_are_nearly_right() -> None:
    """Nearly right input causes no hang, leak, traceback or 500, and the stop has the code 0."""
    report = await run(seed=20_260_301, first=0, visits=None, seconds=8)
    assert report.faults == []
    assert report.visits >= BATCH


@pytest.mark.process
async def test_corpus(tmp_path: Path) -> None:
    """Every input that once found a fault is answered, and logs no fault of the service."""
    report, files = Report(), sorted(CORPUS.iterdir())
    with Service(tmp_path) as service:
        for file in files:
            asked = Visit([file.read_bytes()], requests=99, ending="half closes")
            judge(report, file.name, asked, await pay(service.port, asked))
        report.faults += service.complaints()
    assert files
    assert report.faults == []
    assert report.statuses
