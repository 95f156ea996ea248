from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from aiops.core.errors import InvalidInput
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.core.principal import Principal
from aiops.core.series import Matcher, QueryResult, ResultType, SampleBlock, labels_of
from aiops.incidents.backtest import Backtest, backtest
from aiops.incidents.filling import DEFAULTS, Filling
from aiops.incidents.watch import WatchEntry
from aiops.reports.backtest import as_json, html, summary
from aiops.settings import DetectionSettings, IncidentSettings
from tests.unit.incidents.test_detection import LATENCY, RATE, START, STEP, Shop

HOUR = 3_600_000


def run(
    shop: Shop, hours: int = 3, entries: tuple[Any, ...] = (LATENCY, RATE), levels: Sequence[Filling] = ()
) -> tuple[Backtest, list[float]]:
    detector = cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))
    shares: list[float] = []
    settings = DetectionSettings(train_window_s=12 * 3600, min_points=120)
    found = backtest(
        shop, entries, detector, START, START + hours * HOUR, settings, IncidentSettings(),
        lambda share, text: shares.append(share), levels=levels,
    )  # fmt: skip
    return found, shares


@pytest.fixture(scope="module")
def judged() -> tuple[Backtest, list[float]]:
    shop = Shop()
    shop.factor["latency", "checkout"] = (START + 2 * HOUR, 5.0)
    return run(shop)


def test_it_finds_what_the_loop_would_have_found_and_says_why(judged: tuple[Backtest, list[float]]) -> None:
    found, shares = judged
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert found.series == 6
    (one,) = [e for e in found.explanations if e.anomaly.service == "checkout"]
    assert len(found.explanations) == 1
    assert abs(one.anomaly.started_ms - START - 2 * HOUR) <= 3 * STEP
    assert one.anomaly.terms
    assert one.trace is not None
    assert one.trace.times[0] < one.anomaly.started_ms < one.trace.times[-1]
    assert found.per_series_week == pytest.approx(1 / (6 * 3 / 168))


def test_the_report_is_one_page_without_anything_from_outside(judged: tuple[Backtest, list[float]]) -> None:
    page = html(judged[0], "<prod>")
    assert "data:image/png;base64," in page
    assert "<script" not in page
    assert "&lt;prod&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "checkout" in summary(judged[0])
    assert json.loads(json.dumps(as_json(judged[0]), allow_nan=False))["episodes"] == 1


def test_nothing_to_judge_is_said() -> None:
    shop = Shop()
    shop.services = dict.fromkeys(shop.services, START + 10 * HOUR)
    with pytest.raises(InvalidInput, match="history"):
        run(shop)
    with pytest.raises(InvalidInput, match="before it begins"):
        run(shop, hours=0)


class Levels(Shop):
    """The shop, whose disk fills from an hour before the range on, and whose checkout falls silent."""

    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult:
        if "node_filesystem_avail_bytes" not in query:
            return super().range(query, start_ms, end_ms, step_ms, principal)
        ts = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
        used = 0.5 + 0.05 * np.clip((ts - START + 6 * HOUR) / HOUR, 0, None)
        labels = labels_of({"instance": "db-1", "mountpoint": "/var"})
        return QueryResult(ResultType.MATRIX, SampleBlock.build([(labels, ts, used)]))

    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        found = super().label_values(name, selectors, start_ms, end_ms, principal)
        return [*found, "node_filesystem_avail_bytes", "node_filesystem_size_bytes"]


def test_it_shows_silence_and_what_fills_up_as_the_loop_would_have() -> None:
    shop = Levels()
    shop.silent["checkout"] = (START + HOUR, START + 2 * HOUR)
    found, _ = run(shop, levels=DEFAULTS)
    told = {e.anomaly.metric: e for e in found.explanations}
    assert set(told) == {"latency p95 missing", "request rate missing", "disk /var"}
    silent = told["latency p95 missing"].anomaly
    assert silent.started_ms == START + HOUR
    assert silent.ended_ms is not None
    assert abs(silent.ended_ms - START - 2 * HOUR) <= STEP
    disk = told["disk /var"]
    assert START <= disk.anomaly.started_ms < START + HOUR
    assert disk.anomaly.note.startswith("will be full in ")
    assert disk.trace is not None
    assert disk.trace.value[-1] > disk.trace.value[0]
    page = html(found, "prod")
    assert page.count("data:image/png;base64,") >= 3
    assert "disk /var: will be full in" in summary(found).replace("volume", "")
    json.dumps(as_json(found), allow_nan=False)


def test_a_rate_that_stalls_at_zero_is_shown() -> None:
    class Stalling(Shop):
        def value(self, query: str, service: str, ts: np.ndarray) -> np.ndarray:
            whole = super().value("rate", service, ts)
            return np.where((ts >= START + HOUR) & (service == "cart"), 0.0, whole)

        def label_values(self, *_: Any) -> list[str]:
            return ["jobs_total"]

    entry = WatchEntry("jobs", "rate(jobs_total[1m])", STEP, "other", "up", "1/s", ("jobs_total",))
    found, _ = run(Stalling(), entries=(entry,))
    (one,) = [e.anomaly for e in found.explanations if e.anomaly.note]
    assert (one.service, one.metric, one.note) == ("cart", "jobs stalled", "its counter does not move")
