"""A trace through a broker, from one program into another."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio

from trivet import Event, EventPlugin, TraceSettings
from trivet.testing import open_plugins, serving
from trivet_contrib.redis import RedisSink, RedisSource

from ..spans import collected, is_child, trace_of
from .redis_server import GROUP, needs_redis, redis_server

CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Order(Event):
    number: int


class Billing(EventPlugin[Order]):
    async def initialize(self) -> None:
        self.billed = trio.Event()

    async def handle_event(self, event: Order) -> None:
        self.billed.set()


@pytest.mark.broker
@needs_redis
@pytest.mark.parametrize("format", ["binary", "structured", "json"])
async def test_one_trace_from_a_request_through_redis(tmp_path: Path, format: str) -> None:
    """A request's trace goes on in the handler of another program, behind a Redis stream."""
    on = TraceSettings(enabled=True)
    async with redis_server(tmp_path) as redis:
        sink = {"redis_sink": redis.settings(format=format, delivery={"events": ["order"]})}
        source = {"redis_source": redis.settings(event="order", group=GROUP)}
        with collected() as spans:
            async with (
                open_plugins(RedisSource, Billing, settings=source, traces=on) as behind,
                open_plugins(RedisSink, settings=sink, event_types=[Order], traces=on) as front,
                serving(front) as url,
                httpx.AsyncClient(base_url=url) as http,
            ):
                headers = {"traceparent": CLIENT}
                await http.post("/events/order", json={"number": 1}, headers=headers)
                with trio.fail_after(10):
                    await behind.get(Billing).billed.wait()
    request, handled = spans.the("POST /events/{name}"), spans.the("handle billing")
    first, second = spans.named("publish order")
    assert is_child(first, request)
    assert is_child(second, first)
    assert is_child(handled, second)
    assert trace_of(handled) == trace_of(request) == int(CLIENT[3:35], 16)
