"""A stream of events of any length by HTTP, in bounded memory.

    python tests/bench/bench_ingest.py [--quick]

Each row is a `trivet serve` of its own, with one plugin, in memory or durable, that does nothing
with its events of about 250 bytes. A client in this process sends them over one connection. The
stream is 1 GB, a tenth of that where it is durable (with `--quick` 32 MB, and a tenth). What
counts of its memory is how far the program's peak is above what it had when it was ready. How fast
that is beside single events is in `bench_http.py`.
"""

from __future__ import annotations

import sys

from pairs import QUICK
from servers import ANSWERING, memory, stream, trivet

STREAM = 32_000_000 if QUICK else 1_000_000_000
"""Bytes."""


def main() -> None:
    """Measure, and print the table."""
    write = sys.stdout.write
    write("| stream of events | events/s | peak memory above the start |\n|---|---|---|\n")
    for where, plugin, event, size in (
        ("in memory", "shop", "ordered", STREAM),
        ("durable", "ledger", "noted", STREAM // 10),
    ):
        with trivet(ANSWERING / "plugins", plugin) as server:
            before = memory("VmRSS", server.process)
            rate = stream(server, f"/events/{event}", size)
            above = memory("VmHWM", server.process) - before
        write(f"| {size / 1e6:,.0f} MB, {where} | {rate:,.0f} | {above:.1f} MiB |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
