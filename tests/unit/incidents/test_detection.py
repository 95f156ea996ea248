from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from aiops.core.anomaly import Anomaly, Batch, Judgement, Mark
from aiops.core.errors import ConfigError, QueryError, TransientError
from aiops.core.incident import Alert, SignalKind
from aiops.core.plugins import build
from aiops.core.ports import Detector, MetricQuerier, PluginContext
from aiops.core.principal import Principal
from aiops.core.series import Labels, Matcher, MetricMetadata, QueryResult, ResultType, SampleBlock, labels_of
from aiops.incidents.detection import DetectionLoop
from aiops.incidents.readings import series_id, series_of
from aiops.incidents.watch import WatchEntry
from aiops.models.checkpoints import Checkpoints
from aiops.models.registry import ModelRegistry
from aiops.models.serving import Scorer
from aiops.models.training import Trainer
from aiops.settings import DetectionSettings, IncidentSettings
from aiops.store.state.checkpoints import CheckpointRepository
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.detection import DetectionRepository

STEP = 15_000
DAY = 86_400_000
START = 1_760_000_000_000 // STEP * STEP
LATENCY = WatchEntry("latency_p95", "latency", STEP, "latency", "up", "s", ("latency",), 0.005, 0.4)
RATE = WatchEntry("request_rate", "rate", STEP, "traffic", "down", "req/s", ("rate",), 0.2, 0.4)
SERVICES = ("checkout", "cart", "search")


class Shop(MetricQuerier):
    """Three services with a daily rhythm, as a function of time; faults are set by the test."""

    def __init__(self) -> None:
        self.factor: dict[tuple[str, str], tuple[int, float]] = {}
        self.silent: dict[str, tuple[int, int]] = {}
        self.services: dict[str, int] = dict.fromkeys(SERVICES, 0)
        self.down = False
        self.refuse = ""
        self.asked: list[tuple[str, int, int]] = []

    def value(self, query: str, service: str, ts: np.ndarray) -> np.ndarray:
        salt = sum(map(ord, query + service))
        cells = (ts // STEP).astype(np.uint64) * np.uint64(2654435761) + np.uint64(salt * 7919)
        cells ^= cells >> np.uint64(16)
        cells *= np.uint64(0x9E3779B97F4A7C15)
        noise = ((cells >> np.uint64(40)).astype(float) / 2**24 - 0.5) * 0.2
        daily = 1 + 0.4 * np.sin(2 * np.pi * ts / DAY + salt % 7)
        base = 0.1 * (1 + 0.3 * (daily - 1)) if query == "latency" else 50 * daily
        onset, factor = self.factor.get((query, service), (1 << 60, 1.0))
        return base * (1 + noise) * np.where(ts >= onset, factor, 1.0)

    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult:
        if self.down:
            raise TransientError("connection refused")
        if query == self.refuse:
            raise QueryError("unknown function")
        self.asked.append((query, start_ms, end_ms))
        ts = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
        rows = []
        for service, born in self.services.items():
            a, b = self.silent.get(service, (1 << 60, 0))
            own = ts[(ts >= born) & ~((ts >= a) & (ts < b))]
            if len(own):
                labels = labels_of({"service_name": service, "simulated": "true"})
                rows.append((labels, own, self.value(query, service, own)))
        return QueryResult(ResultType.MATRIX, SampleBlock.build(rows))

    def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult:
        return self.range(query, time_ms, time_ms, STEP, principal)

    def series(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal, limit: int = 0
    ) -> list[Labels]:
        return []

    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        return []

    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        if self.down:
            raise TransientError("connection refused")
        return ["latency", "rate"]

    def metadata(self, principal: Principal) -> list[MetricMetadata]:
        return []


class Inbox:
    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.broken = False

    def submit(self, alerts: Sequence[Alert]) -> None:
        if self.broken:
            raise TransientError("the state store is away")
        self.alerts.extend(alerts)


class Bench:
    """A loop over the shop, with its own clock and a real state store and registry."""

    def __init__(self, folder: Path, watch: Sequence[WatchEntry] = (LATENCY, RATE)) -> None:
        self.folder = folder
        self.watch = watch
        self.shop, self.inbox = Shop(), Inbox()
        self.marks: Any = None
        self.now = START
        database = StateDatabase(sqlite_url(folder))
        database.upgrade()
        self.repository = DetectionRepository(database)
        self.registry = ModelRegistry(folder)
        records = CheckpointRepository(database)
        self.checkpoints = Checkpoints(folder, records, self.registry.signer, clock=lambda: self.now)
        self.loop = self.make()

    def make(self, **options: Any) -> DetectionLoop:
        chosen = {"device": "cpu", **options}
        detector = cast(Detector[Any], build("detectors", "fusion", chosen, PluginContext("test")))
        return DetectionLoop(
            self.shop,
            self.inbox,
            Trainer(self.registry, detector),
            Scorer(detector),
            self.repository,
            DetectionSettings(step_s=STEP / 1000, train_window_s=2.2 * 86400, min_points=120),
            IncidentSettings(),
            lambda: self.now,
            watch=self.watch,
            narrow=lambda query, matchers: query + "{" + ",".join(map(str, matchers)) + "}",
            lag_ms=0,
            marks=self.marks,
            checkpoints=self.checkpoints,
        )

    def run(self, steps: int) -> list[Anomaly]:
        out: list[Anomaly] = []
        for _ in range(steps):
            self.now += STEP
            out += self.loop.run_once(self.now)
        return out


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both databases, migrated once: their hundred tables take a second to make."""
    folder = tmp_path_factory.mktemp("databases")
    ModelRegistry(folder).names()
    database = StateDatabase(sqlite_url(folder))
    database.upgrade()
    database.close()
    return folder


@pytest.fixture
def folder(tmp_path: Path, databases: Path) -> Path:
    return Path(shutil.copytree(databases, tmp_path / "data"))


@pytest.fixture
def bench(folder: Path) -> Bench:
    return Bench(folder)


def test_a_slow_service_is_told_of_within_few_steps_and_ends(bench: Bench) -> None:
    shares: list[float] = []
    assert bench.loop.train(bench.now, lambda share, text: shares.append(share)) == 6
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert bench.run(40) == []
    onset = bench.now + STEP
    bench.shop.factor["latency", "checkout"] = (onset, 5.0)
    found = bench.run(5)
    assert found
    first = bench.inbox.alerts[0]
    assert first.kind is SignalKind.ANOMALY
    assert first.firing
    anomaly = first.anomaly
    assert anomaly is not None
    assert anomaly.service == "checkout"
    assert anomaly.metric == "latency p95"
    assert anomaly.kind == "latency"
    assert anomaly.direction == "up"
    assert onset - STEP <= anomaly.started_ms <= onset + STEP
    assert anomaly.updated_ms - onset <= 4 * STEP
    assert anomaly.value > 3 * anomaly.expected
    assert anomaly.lower <= anomaly.expected <= anomaly.upper < anomaly.value
    assert anomaly.p_value < 1e-5
    assert anomaly.model == "anomaly-15s/1"
    assert anomaly.unit == "s"
    assert anomaly.terms
    assert anomaly.query == 'latency{service_name="checkout",simulated="true"}'
    assert {a.service for a in found} == {"checkout"}
    assert len({a.id for a in found}) == 1
    assert bench.repository.open_anomalies()[0].id == anomaly.id
    bench.shop.factor.clear()
    ended = bench.run(12)
    assert ended[-1].ended_ms is not None
    assert not bench.inbox.alerts[-1].firing
    assert bench.inbox.alerts[-1].fingerprint == first.fingerprint
    assert bench.repository.open_anomalies() == ()
    assert bench.run(20) == []


def test_a_quiet_day_opens_nothing(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.now += 2000 * STEP
    assert bench.run(1500) == []


def test_more_traffic_and_faster_answers_are_no_incident(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.shop.factor["rate", "cart"] = (0, 3.0)
    bench.shop.factor["latency", "cart"] = (0, 0.3)
    assert bench.run(10) == []
    bench.shop.factor["rate", "cart"] = (0, 0.1)
    assert {(a.metric, a.direction) for a in bench.run(6)} == {("request rate", "down")}


def test_only_new_steps_are_read_and_each_once(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.shop.asked.clear()
    bench.run(2)
    assert bench.loop.run_once(bench.now) == []
    bench.now += 3 * STEP
    bench.loop.run_once(bench.now)
    asked = [(a, b) for query, a, b in bench.shop.asked if query == "latency"]
    assert asked == [(START + k * STEP, START + e * STEP) for k, e in ((1, 1), (2, 2), (3, 5))]


def test_a_source_that_is_down_is_a_state_and_nothing_is_lost(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.run(3)
    bench.shop.down = True
    bench.shop.factor["latency", "cart"] = (bench.now + STEP, 6.0)
    assert bench.run(5) == []
    assert "refused" in bench.loop.status().source
    bench.shop.down = False
    found = bench.run(1)
    assert bench.loop.status().source == ""
    assert [a.service for a in found] == ["cart"]


def test_missing_values_are_not_zeros(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.shop.silent["search"] = (bench.now + 2 * STEP, bench.now + 12 * STEP)
    assert bench.run(30) == []


def test_a_query_that_is_refused_leaves_the_others_watched(bench: Bench) -> None:
    bench.shop.refuse = "rate"
    assert bench.loop.train(bench.now) == 3
    bench.shop.factor["latency", "cart"] = (0, 6.0)
    assert [a.service for a in bench.run(3)] == ["cart"]
    assert bench.loop.status().refused == (("request_rate", "unknown function"),)


def test_a_restart_serves_the_champion_and_does_not_tell_again(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.run(2)
    bench.shop.factor["latency", "checkout"] = (bench.now + STEP, 5.0)
    bench.run(6)
    (before,) = bench.repository.open_anomalies()
    asked = len(bench.shop.asked)
    bench.loop = bench.make()
    assert bench.loop.restore()
    assert len(bench.shop.asked) == asked
    bench.now += 4 * STEP
    later = bench.run(3)
    assert {a.id for a in later} == {before.id}
    bench.shop.factor.clear()
    assert bench.run(12)[-1].ended_ms is not None
    assert bench.repository.open_anomalies() == ()


def test_alerts_wait_while_the_sink_is_away(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.inbox.broken = True
    bench.shop.factor["latency", "checkout"] = (0, 5.0)
    bench.run(4)
    assert bench.inbox.alerts == []
    bench.inbox.broken = False
    bench.run(1)
    assert [a.firing for a in bench.inbox.alerts][:1] == [True]
    assert len({a.fingerprint for a in bench.inbox.alerts}) == 1


def test_a_new_service_warms_up_and_joins(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.shop.services["payments"] = bench.now + STEP
    bench.run(30)
    assert bench.loop.status().groups[0].warming == 2
    bench.now += 100 * STEP
    bench.run(1)
    assert bench.loop.join_new(bench.now) == 2
    status = bench.loop.status().groups[0]
    assert (status.watched, status.warming) == (8, 0)
    assert bench.run(5) == []
    bench.shop.factor["latency", "payments"] = (bench.now + STEP, 8.0)
    assert {a.service for a in bench.run(5)} == {"payments"}


def test_retraining_promotes_a_new_version_and_keeps_episodes(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.shop.factor["latency", "checkout"] = (bench.now + STEP, 5.0)
    before = {a.id for a in bench.run(5)}
    bench.loop.train(bench.now)
    assert {a.id for a in bench.run(3)} == before
    assert [v.aliases for v in bench.registry.versions("anomaly-15s")] == [("champion",), ()]
    assert bench.loop.status().groups[0].reference == "anomaly-15s/2"


def test_a_rollback_in_the_registry_is_followed(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.run(3)
    bench.loop.train(bench.now)
    bench.registry.rollback("anomaly-15s")
    bench.loop.follow_registry()
    assert bench.loop.status().groups[0].reference == "anomaly-15s/1"
    assert bench.run(5) == []
    bench.shop.factor["latency", "cart"] = (bench.now + STEP, 5.0)
    assert {a.model for a in bench.run(5)} == {"anomaly-15s/1"}


def test_too_little_history_leaves_the_group_warming(folder: Path) -> None:
    bench = Bench(folder)
    bench.shop.services = dict.fromkeys(SERVICES, bench.now - 50 * STEP)
    assert bench.loop.train(bench.now) == 0
    assert not bench.loop.trained
    assert bench.loop.status().groups[0].warming == 6
    assert bench.run(3) == []


def test_start_and_stop(bench: Bench) -> None:
    bench.loop.start()
    bench.loop.stop()


def test_the_same_query_twice_is_a_configuration_error(folder: Path) -> None:
    with pytest.raises(ConfigError):
        Bench(folder, (LATENCY, LATENCY))


def test_series_ids_go_there_and_back() -> None:
    labels = labels_of({"service_name": 'a"b\\|é\ud800', "x": "1"})
    assert series_of(series_id("latency_p95", labels)) == ("latency_p95", labels)


def test_a_champion_of_another_watch_list_is_not_served(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.watch = (LATENCY,)
    bench.loop = bench.make()
    assert not bench.loop.restore()
    assert not bench.loop.trained
    assert bench.run(2) == []
    assert bench.loop.train(bench.now) == 3
    assert bench.run(2) == []


def test_series_that_joined_late_and_what_was_spent_outlive_a_restart(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.shop.services["payments"] = bench.now + STEP
    bench.now += 140 * STEP
    bench.run(1)
    assert bench.loop.join_new(bench.now) == 2
    bench.shop.factor["latency", "checkout"] = (bench.now + STEP, 5.0)
    bench.run(6)
    bench.loop.stop()
    spent = bench.loop.fleet.ledger.times
    assert len(spent) == 1
    bench.shop.factor.clear()
    bench.loop = bench.make()
    assert bench.loop.restore()
    assert bench.loop.status().groups[0].watched == 8
    assert bench.loop.fleet.ledger.times == spent
    bench.run(20)
    bench.shop.factor["latency", "payments"] = (bench.now + STEP, 8.0)
    assert "payments" in {a.service for a in bench.run(6)}


def test_an_anomaly_names_the_other_metrics_of_its_service_that_deviate(bench: Bench) -> None:
    bench.loop.train(bench.now)
    bench.shop.factor["latency", "checkout"] = (bench.now + STEP, 5.0)
    bench.shop.factor["rate", "checkout"] = (bench.now + STEP, 0.2)
    found = {a.metric: a for a in bench.run(6)}
    assert [name for name, _ in found["latency p95"].beside] == ["request rate"]
    assert [name for name, _ in found["request rate"].beside] == ["latency p95"]
    assert all(score > 1 for _, score in found["latency p95"].beside)
    kept = bench.repository.anomaly(found["latency p95"].id)
    assert kept is not None
    assert kept.beside == found["latency p95"].beside


def test_the_metrics_of_a_service_are_scored_together_where_the_joint_member_is_chosen(bench: Bench) -> None:
    bench.loop = bench.make(members=["seasonal_residual", "group_covariance"])
    assert bench.loop.train(bench.now) == 6
    served = bench.loop.fleet.scorer.served("anomaly-15s")
    assert served is not None
    group = served.state.arrays["group_covariance:group"]
    services = [dict(series_of(key)[1])["service_name"] for key in served.state.series_ids]
    assert len(set(group.tolist())) == len(SERVICES)
    assert all((group[i] == group[j]) == (services[i] == services[j]) for i in range(6) for j in range(6))
    assert bench.run(20) == []
    bench.shop.factor["latency", "checkout"] = (bench.now + STEP, 5.0)
    found = bench.run(6)
    assert {(a.service, a.metric) for a in found} == {("checkout", "latency p95")}
    assert any(name.startswith("group_covariance.") for name, _ in found[0].terms)


def test_people_s_marks_move_the_threshold_of_that_series_alone(bench: Bench) -> None:
    marks: list[Mark] = []

    class Marks:
        def since(self, time_ms: int) -> Sequence[Mark]:
            return marks

    bench.marks = Marks()
    bench.loop = bench.make()
    bench.loop.train(bench.now)
    bench.shop.factor["latency", "checkout"] = (bench.now + STEP, 5.0)
    found = bench.run(5)[0]
    group = bench.loop.fleet.groups[0]
    row = next(i for i, s in enumerate(group.series) if s.labels == found.series and s.entry.metric == found.metric)
    assert group.judge is not None
    before = group.judge.threshold.copy()
    marks.append(
        Mark(found.id, Judgement.FALSE, "ann", bench.now, found.metric, found.series, "checkout", 0, 1, found.model)
    )
    bench.loop.follow_marks()
    moved = group.judge.threshold - before
    assert moved[row] > 0
    assert np.abs(np.delete(moved, row)).max() < 0.05 * moved[row]  # live scores move them a little
    assert (
        bench.loop.scores(
            found,
            Batch(
                np.full((1, 50), 0.1, np.float32),
                np.ones((1, 50), bool),
                bench.now + STEP * np.arange(50),
                STEP,
                ("x",),
            ),
        )
        is not None
    )
