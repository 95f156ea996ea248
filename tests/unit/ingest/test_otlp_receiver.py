"""OTLP into a real store: delta streams over failures and restarts, UTF-8 names from body to query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from aiops.core.errors import TransientError
from aiops.core.principal import LOCAL
from aiops.ingest.otlp_receiver import OtlpReceiver, receiver_of
from aiops.promql.engine import PromqlEngine
from aiops.settings import OtlpSettings, PromqlSettings, Settings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.ingest.test_otlp_metrics import NS, SECOND, TS, delta_histogram, delta_sum, kv, request

NOW = TS + 60_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    built = TelemetryStore(TelemetryDatabase(tmp_path / "t.duckdb", StoreSettings(), lambda: NOW))
    yield built
    built.close()


def receiver(store: TelemetryStore, **chosen: Any) -> OtlpReceiver:
    return receiver_of(Settings(otlp=OtlpSettings(**chosen)), store, lambda: NOW)


def value(store: TelemetryStore, query: str) -> float:
    (found,) = PromqlEngine(store, PromqlSettings()).instant(query, NOW, LOCAL).block.values.tolist()
    return float(found)


def test_a_total_goes_on_after_a_restart_and_a_replay_adds_nothing(store: TelemetryStore) -> None:
    first = receiver(store)
    first.receive("metrics", delta_sum((0, 10, 2), (10, 20, 3)))
    first.receive("metrics", delta_histogram(20, [1, 2, 3], [1, 2]))
    again = receiver(store)
    replayed = again.receive("metrics", delta_sum((10, 20, 3)))
    assert replayed.lost == 0
    again.receive("metrics", delta_sum((20, 30, 4)))
    again.receive("metrics", delta_histogram(30, [0, 0, 1], [1, 2]))
    assert value(store, "hits_total") == 9.0
    assert value(store, "took_count") == 7.0
    assert value(store, 'took_bucket{le="2"}') == 3.0
    assert value(store, "took_sum") == 5.0
    assert value(store, "increase(hits_total[1m])") >= 9.0, "no reset in between"


def test_what_the_store_refused_is_added_when_it_comes_again(
    store: TelemetryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking = receiver(store)
    taking.receive("metrics", delta_sum((0, 10, 2)))
    append = store.append

    def full(*args: object, **rest: object) -> None:
        raise TransientError("The disk is full.")

    monkeypatch.setattr(store, "append", full)
    for _ in range(2):
        with pytest.raises(TransientError):
            taking.receive("metrics", delta_sum((10, 20, 3)))
    monkeypatch.setattr(store, "append", append)
    assert taking.receive("metrics", delta_sum((10, 20, 3))).lost == 0
    assert value(store, "hits_total") == 5.0


def test_utf8_names_from_body_to_query(store: TelemetryStore) -> None:
    whole, out = request({"service.name": "caffè", "host.name": "h"})
    points = out.add(name="bestellungen.größe").gauge.data_points
    points.add(time_unix_nano=NS + 59 * SECOND, as_double=2.5, attributes=kv({"zone.größe": "α β"}))
    receiver(store, translation_strategy="NoTranslation").receive("metrics", whole.SerializeToString())
    assert value(store, '{"bestellungen.größe", "zone.größe"="α β", job="caffè"}') == 2.5
    assert value(store, 'sum by ("zone.größe") ({"bestellungen.größe"})') == 2.5
    assert value(store, '{"target_info", "host.name"="h"}') == 1.0


def test_an_empty_request_is_fine(store: TelemetryStore) -> None:
    for signal in ("metrics", "logs", "traces"):
        assert receiver(store).receive(signal, b"").lost == 0
    assert receiver(store).receive("metrics", ExportMetricsServiceRequest().SerializeToString()).complaint == ""
