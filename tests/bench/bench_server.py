"""The HTTP server alone, beside uvicorn: one constant ASGI answer, under wrk.

    python tests/bench/bench_server.py [--quick]

Each server is a process of its own, asked in turns. uvicorn runs on uvloop and httptools, Trivet's
server on Trio and httptools. The ratio is of the processor time that a request takes, which a busy
neighbour changes less than the time that passes; above 1 Trivet's server needs less.
"""

from __future__ import annotations

from functools import partial

from pairs import Table, pairs
from servers import Server, require_wrk, script, wrk


def per_second(server: Server, connections: int) -> float:
    """Requests that one second of a processor is enough for."""
    return 1 / wrk(server, "/", connections=connections).cpu


def main() -> None:
    """Measure, and print the table."""
    require_wrk()
    with script("constant", "trivet") as ours, script("constant", "uvicorn") as theirs:
        table = Table("the server alone", "CPU, µs a request")
        for connections in (16, 64):
            rate, ratio = pairs(
                partial(per_second, ours, connections), partial(per_second, theirs, connections)
            )
            what = f"a constant answer, {connections} connections"
            table.row(what, 1e6 / rate.median, "uvicorn", ratio, "≥ 0.85")


if __name__ == "__main__":
    main()
