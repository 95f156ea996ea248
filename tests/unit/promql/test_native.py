"""A query that needs native histograms where they cannot be read is refused: never a wrong number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiops.core.errors import QueryError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import Matcher, MatchOp, NativeHistogram, SampleBlock, labels_of
from aiops.promql.engine import PromqlEngine
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_764_000_000_000
NATIVE = labels_of({"__name__": "lat_seconds", "job": "shop"})


@pytest.fixture
def engine() -> Iterator[PromqlEngine]:
    store = TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW + 3_600_000))
    floats = [(labels_of({"__name__": f"lat_seconds_{x}", "job": "shop"}), 7.0) for x in ("count", "sum")]
    floats.append((labels_of({"__name__": "up", "job": "shop"}), 1.0))
    store.append(
        Collected(samples=SampleBlock.at(NOW, floats), histograms=(NativeHistogram(NATIVE, NOW, b"\x08\x07"),))
    )
    yield PromqlEngine(store)
    store.close()


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("lat_seconds", "1:1"), ("rate(lat_seconds[5m])", "1:6"), ("histogram_quantile(0.9, lat_seconds + 1)", "1:25"),
        ("up + on (job)\n  count(lat_seconds)", "2:9"), ('{__name__="lat_seconds"}', "1:1"),
        ("max_over_time(sum(lat_seconds)[1h:])", "1:19"), ("lat_seconds offset 1m", "1:1"),
    ],
)  # fmt: skip
def test_a_metric_asked_for_by_name_is_refused(engine: PromqlEngine, query: str, place: str) -> None:
    for ask in (
        lambda: engine.instant(query, NOW + 60_000, LOCAL),
        lambda: engine.range(query, NOW, NOW + 60_000, 60_000, LOCAL),
    ):
        with pytest.raises(QueryError) as caught:
            ask()
        assert caught.value.kind == "execution"
        assert (
            caught.value.message
            == f'{place}: "lat_seconds" has native histograms, which only functions of histograms read'
        )
        assert "lat_seconds_bucket" in caught.value.hint


def test_its_float_series_are_answered(engine: PromqlEngine) -> None:
    result = engine.instant("lat_seconds_sum / lat_seconds_count", NOW, LOCAL)
    assert (result.block.values.tolist(), result.warnings) == ([1.0], ())


def test_a_selector_of_other_labels_is_answered_with_a_warning(engine: PromqlEngine) -> None:
    result = engine.instant('count({job="shop"})', NOW, LOCAL)
    assert result.block.values.tolist() == [3.0]
    (warning,) = result.warnings
    assert warning.startswith('PromQL warning: native histograms are left out: "lat_seconds" has native histograms')
    assert warning.endswith("(1:7)")


def test_only_where_there_are_any_in_time_and_scope(engine: PromqlEngine) -> None:
    assert len(engine.instant("lat_seconds", NOW + 300_000, LOCAL).block) == 0
    assert len(engine.instant("lat_seconds", NOW - 1, LOCAL).block) == 0
    assert len(engine.instant("lat_seconds{job='other'}", NOW, LOCAL).block) == 0
    other = Principal("k", Role.VIEWER, (Matcher("job", MatchOp.EQUAL, "other"),))
    assert len(engine.instant("lat_seconds", NOW, other).block) == 0


def test_a_subquery_without_a_point_needs_no_samples(engine: PromqlEngine) -> None:
    assert len(engine.instant("min_over_time((topk(1, up))[1m:5m])", NOW + 120_000, LOCAL).block) == 0


def test_they_are_known_after_a_restart(tmp_path: Path) -> None:
    for appended in (NATIVE, labels_of({"__name__": "size_bytes"})):
        store = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings(), lambda: NOW + 3_600_000))
        try:
            store.append(Collected(histograms=(NativeHistogram(appended, NOW, b"\x08\x07"),)))
            with pytest.raises(QueryError, match="lat_seconds"):
                PromqlEngine(store).instant("lat_seconds", NOW, LOCAL)
        finally:
            store.close()
