"""Spans that tests collect, with OpenTelemetry's SDK.

Owns the provider of one test, and its exporter.
Never knows which spans Trivet makes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased


class Spans:
    """The spans that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> Sequence[ReadableSpan]:
        """Each of them."""
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        """Their names, sorted."""
        return sorted(span.name for span in self.all)

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans with a name, in the order of their ends."""
        return [span for span in self.all if span.name == name]

    def the(self, name: str) -> ReadableSpan:
        """The only one with a name."""
        (span,) = self.named(name)
        return span


@contextmanager
def collected(*, sampled: bool = True) -> Generator[Spans]:
    """Collect the spans of programs that start within this block.

    Args:
        sampled: whether traces that begin here are sampled; others are as their `traceparent` says.
    """
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON if sampled else ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trace, "get_tracer_provider", lambda: provider)
        yield Spans(exporter)


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether a span follows from another one."""
    assert parent.context is not None
    return span.parent is not None and span.parent.span_id == parent.context.span_id


def trace_of(span: ReadableSpan) -> int:
    """The trace that a span is part of."""
    assert span.context is not None
    found: int = span.context.trace_id
    return found
