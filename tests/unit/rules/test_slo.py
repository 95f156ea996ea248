"""Objectives as rules: what burns, what does not, and what is left."""

from __future__ import annotations

import numpy as np
import pytest

from aiops.core.errors import ConfigError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL
from aiops.core.series import SampleBlock, labels_of
from aiops.incidents.objectives import Objectives
from aiops.promql.engine import PromqlEngine
from aiops.rules.slo import BURNS, ERRORS, TOTAL, groups_of
from aiops.settings import PromqlSettings, SloSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_700_000_000_000
MINUTE = 60_000
SLO = SloSettings(
    objective=0.999,
    errors='rate(http_requests_total{code=~"5.."}[$window])',
    total="rate(http_requests_total[$window])",
    service="checkout",
)


@pytest.fixture
def store():
    database = TelemetryDatabase(None, StoreSettings(), lambda: NOW)
    yield TelemetryStore(database)
    database.close()


def recorded(store: TelemetryStore, bad: np.ndarray, total: np.ndarray) -> PromqlEngine:
    """What the recording rules write each minute, the last value now."""
    ts = NOW - MINUTE * np.arange(len(bad) - 1, -1, -1, dtype=np.int64)
    rows = [
        (labels_of({"__name__": name, "slo": "web", "service": "checkout"}), ts, values)
        for name, values in ((ERRORS, bad), (TOTAL, total))
    ]
    store.append(Collected(samples=SampleBlock.build(rows)))
    return PromqlEngine(store, PromqlSettings(), lambda: NOW)


def firing(engine: PromqlEngine) -> set[str]:
    (group,) = groups_of({"web": SLO})
    rules = [rule for rule in group.rules if rule.alert]
    return {r.labels["severity"] for r in rules if len(engine.instant(r.expr, NOW, LOCAL).block)}


def test_factors_are_the_workbook_s() -> None:
    assert [round(b.factor(30 * 86_400), 6) for b in BURNS] == [14.4, 6, 3, 1]
    assert [b.long_s / b.short_s for b in BURNS] == [12, 12, 12, 12]


@pytest.mark.parametrize(
    ("share", "minutes", "severities"),
    [
        (0.0005, 4320, set()),
        (0.0012, 4320, {"warning"}),
        (0.007, 360, {"critical"}),
        (0.007, 1440, {"critical", "warning"}),
        (0.02, 60, {"critical"}),
        (0.02, 3, set()),
    ],
    ids=["within the objective", "slowly", "six hours", "a day", "fast", "a blip"],
)
def test_what_burns(store: TelemetryStore, share: float, minutes: int, severities: set[str]) -> None:
    total = np.full(4320, 50.0)
    bad = np.zeros(4320)
    bad[-minutes:] = share * 50
    assert firing(recorded(store, bad, total)) == severities


def test_an_alert_ends_soon_after_the_errors_do(store: TelemetryStore) -> None:
    total, bad = np.full(4320, 50.0), np.zeros(4320)
    bad[-120:-40] = 5.0
    assert "critical" not in firing(recorded(store, bad, total))


def test_busy_minutes_weigh_more(store: TelemetryStore) -> None:
    total, bad = np.full(360, 1.0), np.zeros(360)
    total[100], bad[100] = 10_000.0, 100.0
    state = Objectives({"web": SLO}, recorded(store, bad, total)).states(NOW, LOCAL)[0]
    assert state.bad_share == pytest.approx(100 / (359 + 10_000))


def test_state_of_a_budget(store: TelemetryStore) -> None:
    engine = recorded(store, np.full(1000, 0.025), np.full(1000, 50.0))
    (state,) = Objectives({"web": SLO}, engine).states(NOW, LOCAL)
    assert state.bad_share == pytest.approx(0.0005)
    assert state.budget_left == pytest.approx(0.5)
    assert state.burn[3600] == pytest.approx(0.5)
    assert state.burning == ""


def test_no_traffic_and_no_data_are_neither_good_nor_bad(store: TelemetryStore) -> None:
    engine = recorded(store, np.zeros(100), np.zeros(100))
    (state,) = Objectives({"web": SLO}, engine).states(NOW, LOCAL)
    assert np.isnan(state.budget_left)
    assert firing(engine) == set()


def test_recording_rules_count_no_errors_as_zero(store: TelemetryStore) -> None:
    ts = NOW - 15_000 * np.arange(40, -1, -1, dtype=np.int64)
    good = labels_of({"__name__": "http_requests_total", "code": "200"})
    store.append(Collected(samples=SampleBlock.build([(good, ts, np.arange(41.0))])))
    engine = PromqlEngine(store, PromqlSettings(), lambda: NOW)
    (group,) = groups_of({"web": SLO})
    by_name = {r.record: engine.instant(r.expr, NOW, LOCAL).block.values for r in group.rules if r.record}
    assert by_name[ERRORS].tolist() == [0.0]
    assert by_name[TOTAL].tolist() == pytest.approx([1 / 15])
    assert dict(group.rules[0].labels) == {"slo": "web", "service": "checkout"}


@pytest.mark.parametrize(("errors", "part"), [("rate(", "errors"), ("rate(x[$windo])", "errors"), ("}", "errors")])
def test_queries_that_cannot_be_read_stop_the_start(errors: str, part: str) -> None:
    with pytest.raises(ConfigError, match=rf"slos\.web\.{part}"):
        groups_of({"web": SLO.model_copy(update={"errors": errors})})
