"""The receivers' bench runs at tiny sizes and counts what it decodes. No time is asserted."""

from __future__ import annotations

from tests.benchmarks import receivers


def test_the_bench_runs() -> None:
    rows = receivers.run(60)
    assert len(rows) == 4
    assert all(row.cold > 0 and row.ratio > 0 for row in rows)
