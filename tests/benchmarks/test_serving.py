"""The bench of serving runs at tiny sizes. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import serving


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_the_bench_runs_and_no_request_fails(tmp_path: Path) -> None:
    found = serving.run(tmp_path, series=20, seconds=8.0, rate=20.0, batch_series=10)
    told = json.loads(json.dumps(found.as_json()))
    assert told["quiet"]["requests"] == told["training"]["requests"] == 160
    assert told["refused"] == told["failed_during_changes"] == 0 and told["trainings"] > 0
    assert told["cold_start_s"] > 0 and told["promotion_s"] > 0 and told["batch_to_bare_detector"] > 0
