from __future__ import annotations

import json
from typing import Any, cast

import pytest

from aiops.core.errors import InvalidInput
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext
from aiops.incidents.backtest import Backtest, backtest
from aiops.reports.backtest import as_json, html, summary
from aiops.settings import DetectionSettings, IncidentSettings
from tests.unit.incidents.test_detection import LATENCY, RATE, START, STEP, Shop

HOUR = 3_600_000


def run(shop: Shop, hours: int = 3, entries: tuple[Any, ...] = (LATENCY, RATE)) -> tuple[Backtest, list[float]]:
    detector = cast(Detector[Any], build("detectors", "fusion", {"device": "cpu"}, PluginContext("test")))
    shares: list[float] = []
    settings = DetectionSettings(train_window_s=12 * 3600, min_points=120)
    found = backtest(
        shop, entries, detector, START, START + hours * HOUR, settings, IncidentSettings(),
        lambda share, text: shares.append(share),
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
