"""Memory under churn, from outside: short series come by the 100,000 and the service's RSS is read."""

from __future__ import annotations

import itertools
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.kill_cycles import QUIET, ClockedService
from tests.e2e.senders import WRITE
from tests.unit.ingest.encode import series, snappy

ONE = 0x3FF0000000000000
ROUND, BATCH = 100_000, 5_000
CACHE_BYTES = 64 << 20
BYTES_A_SERIES = 4_000
"""At most, once the caches are full: labels, postings and times of a set of four labels."""


def rss(service: ClockedService) -> int:
    return int(psutil.Process(service.process.pid).memory_info().rss)


def pods(service: ClockedService, first: int) -> list[int]:
    """A round of series that live for two samples, as the pods of a busy cluster do; statuses of the answers."""
    now = service.clock()
    found = []
    for start in range(first, first + ROUND, BATCH):
        body = b"".join(
            series(
                (("__name__", "m"), ("job", f"j{i % 50}"), ("namespace", "shop"), ("pod", f"checkout-{i:08x}-x7k2p")),
                [(now - 15_000, ONE), (now, ONE + i)],
            )
            for i in range(start, start + BATCH)
        )
        url = f"{service.url}/api/v1/write"
        reply = httpx.post(url, content=snappy(body), headers=WRITE, trust_env=False, timeout=60)
        found.append(reply.status_code)
    service.clock.advance(3 * 3_600_000)  # the block closes and is compacted
    return found


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_short_series_take_a_bounded_amount_of_memory(tmp_path: Path) -> None:
    """Two rounds are taken; the third runs into the limit and takes no more memory."""
    store = {"cache_bytes": CACHE_BYTES, "memory_limit": "512MB", "max_series": 2 * ROUND + 2 * BATCH}
    service = ClockedService(tmp_path, {**QUIET, "store": store})
    try:
        readings = [rss(service)]
        answers = []
        for number in range(3):
            answers.append(set(pods(service, number * ROUND)))
            readings.append(rss(service))
        rises = [b - a for a, b in itertools.pairwise(readings)]
        told = ", ".join(f"{rise / 1e6:.0f} MB" for rise in rises)
        print(f"RSS {readings[0] / 1e6:.0f} MB idle; {ROUND:,} short series, as many again, more than allowed: {told}")
        assert answers == [{204}, {204}, {204, 400}]
        assert rises[1] < BYTES_A_SERIES * ROUND
        assert rises[2] < rises[1], "what is refused is not kept"
        assert service.http.get("/api/v1/store").json()["series"] <= 2 * ROUND + 2 * BATCH
    finally:
        service.close()
