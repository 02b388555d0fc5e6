from __future__ import annotations

import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from trivet.testing import client, open_plugins


async def test_a_teapot_says_so(autojump_clock: MockClock) -> None:
    """`GET /teapot` is answered 418 in plain text, whether the water boils or not."""
    async with open_plugins("teapot") as runtime:
        for _ in range(2):
            answer = await client(runtime).get("/teapot")
            assert (answer.status_code, answer.mimetype) == (418, "text/plain")
            assert await answer.get_data(as_text=True) == "I am teapot"
            await trio.sleep(1000)


async def test_boiling(autojump_clock: MockClock) -> None:
    """Each second logs a line until the water boils; then the log is silent."""
    with capture_logs() as logs:
        async with open_plugins("teapot"):
            await trio.sleep(99.5)
            lines = [log["event"] for log in logs if log.get("plugin") == "teapot"]
            assert lines == [f"I boil water, temperature: {degrees}" for degrees in range(1, 100)]
            logs.clear()
            await trio.sleep(1000)
            lines = [log["event"] for log in logs if log.get("plugin") == "teapot"]
            assert lines == ["boiling water is ready, would you care for a cup of tea?"]
