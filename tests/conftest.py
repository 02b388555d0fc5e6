from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile(
    "dev",
    max_examples=25,
    deadline=None,  # The machine may be busy.
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,  # A clock of its own for all examples is enough.
    ],
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=50, derandomize=True)
settings.register_profile(
    "nightly", settings.get_profile("dev"), max_examples=1000, print_blob=True
)
# `--hypothesis-profile` has the last word. A test that wants more has a multiple of these.
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


TOGETHER = {
    "tests/contrib/test_rabbitmq.py",
    "tests/runtime/on_asyncio/test_every_library.py",
    "tests/runtime/web/test_turns.py",
}
"""Files whose tests share a fixture that takes seconds to make: one process runs all of a file."""


def scope(nodeid: str) -> str:
    """Return the name of the tests that stay together with this one."""
    file = nodeid.partition("::")[0]
    return file if file in TOGETHER else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give the largest scopes to the processes first, then each test to the one that is free."""
    scheduling: Any = import_module("xdist.scheduler").LoadScopeScheduling(config, log)
    scheduling._split_scope = scope
    return scheduling


def pytest_collection_finish() -> None:
    """Freeze what the collection of the tests has made: no test's own collection searches it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_old_garbage() -> None:
    """Freeze the objects of earlier tests, whose collection would count as this test's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def own_garbage() -> Iterator[None]:
    """Collect a test's garbage before its end: its warnings are ignored in this test alone."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    """Undo what a test's program has told structlog, which is one for the whole process.

    Plain tracebacks: where rich is installed, each of its pictures holds the loop for a while.
    """
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, plain])
    yield
    structlog.reset_defaults()
