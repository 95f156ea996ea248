"""Parts of an export: what is in them, who sees what, and import that adds nothing twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aiops.core.cost import REQUIRED_COLUMNS, CostTable
from aiops.core.errors import InvalidInput
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal, Role
from aiops.core.series import STALE_NAN, Exemplar, Matcher, MatchOp, NativeHistogram, SampleBlock
from aiops.core.signals import ChangeEvent, LogQuery, LogRecord, Span
from aiops.core.untrusted import Untrusted
from aiops.settings import StoreSettings
from aiops.store.telemetry.archive import Imported, Part, narrowed
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.parts import PartWriter
from aiops.store.telemetry.store import TelemetryStore
from aiops.store.telemetry.usage import EXPORTED
from tests.unit.store.telemetry.conftest import NOW, Hands

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START, END = NOW - 6 * HOUR_MS, NOW + 1


ODD = Exemplar((("__name__", "odd"), ("job", "db")), (), -np.inf, NOW - 1)


def fill(store: TelemetryStore) -> None:
    """Two services with all that may make trouble: NaNs, equal lines, a name that needs quoting, no labels at all."""
    times = np.arange(START, NOW, 60_000)
    values = np.random.default_rng(1).random(len(times))
    values[3], values[4], values[5] = STALE_NAN, np.nan, np.inf
    block = SampleBlock.build(
        [
            ((("__name__", "load"), ("job", "api"), ("path", 'it\'s "ü"')), times, values),
            ((("__name__", "load"), ("job", "db")), times, values[::-1].copy()),
            ((("odd", "x"),), times[:1], values[:1]),
        ]
    )
    for job in ("api", "db"):
        resource = (("service.name", job),)
        log = LogRecord(NOW * 10**6 - 5, Untrusted("hello 'world'"), 9, "INFO", resource, (("k", "v"),), "ab", "cd")
        later = LogRecord((NOW - 3 * HOUR_MS) * 10**6, Untrusted("earlier"), 17, "ERROR", resource, ())
        span = Span(
            f"{job:0>32}", f"{job:0>16}", "", Untrusted("GET"), "server", NOW * 10**6 - 9, NOW * 10**6, "ok", resource
        )
        store.append(Collected(logs=(log, log, later), spans=(span,)))
    changes = tuple(
        ChangeEvent(NOW - 5, "deploy", "api", Untrusted("v2"), attributes=(("sha", "1"),)) for _ in range(2)
    )
    extras = [
        ((("__name__", "load"), ("job", job)), at, k)
        for k, job in enumerate(("api", "db"), 1)
        for at in (NOW - 5 * HOUR_MS, NOW)
    ]
    exemplars = tuple(Exemplar(own, (("trace_id", f'"{k}'),), k / 3, at) for own, at, k in extras)
    histograms = tuple(NativeHistogram(own, at, bytes([8, k, 0, 255])) for own, at, k in extras)
    store.append(Collected(block, changes=changes, exemplars=(*exemplars, ODD), histograms=histograms))
    month = NOW // DAY_MS * DAY_MS - 10 * DAY_MS
    text = {"BillingCurrency": "USD", "ChargeCategory": "Usage", "ServiceName": "vm", "x_team": "a"}
    columns = {name: np.array([value] * 2, object) for name, value in text.items()}
    for name in ("BillingPeriodStart", "ChargePeriodStart"):
        columns[name] = np.array([month, month])
    for name in ("BillingPeriodEnd", "ChargePeriodEnd"):
        columns[name] = np.array([month + 30 * DAY_MS] * 2)
    for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        columns[name] = np.array([0.1, 0.7])
    for name in REQUIRED_COLUMNS:
        columns.setdefault(name, np.array(["1", "2"], object))
    store.import_costs(CostTable("bill", columns))


def moved(
    source: TelemetryStore, target: TelemetryStore, folder: Path, principal: Principal = LOCAL
) -> dict[str, list[Imported]]:
    found: dict[str, list[Imported]] = {signal: [] for signal in EXPORTED}
    for part in source.archive.plan(START, END, EXPORTED, principal):
        path = folder / "part.parquet"
        if source.archive.write(part, principal, path):
            found[part.signal].append(target.archive.read(part.signal, path))
    return found


def total(found: dict[str, list[Imported]], what: str) -> dict[str, int]:
    return {signal: sum(getattr(one, what) for one in parts) for signal, parts in found.items()}


def everything(store: TelemetryStore) -> object:
    block = store.scan((), 0, 1 << 60, LOCAL)
    order = sorted(range(len(block)), key=lambda i: block.labels[i])
    series = [(block.labels[i], block.series(i)[0].tolist(), block.series(i)[1].view("u8").tolist()) for i in order]
    with store.database.read() as con:
        costs = con.execute("SELECT * FROM costs ORDER BY ALL").fetchall()
    return (
        series, sorted(map(repr, store.logs(LogQuery(0, 1 << 43, limit=999), LOCAL))),
        sorted(map(repr, store.spans(0, 1 << 43, LOCAL))),
        store.changes(0, 1 << 43, LOCAL), costs,
        sorted(map(repr, store.exemplars((), 0, 1 << 43, LOCAL))),
        sorted(map(repr, store.histograms((), 0, 1 << 43, LOCAL))),
    )  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path, clock: Hands) -> Iterator[tuple[TelemetryStore, TelemetryStore]]:
    made = [
        TelemetryStore(TelemetryDatabase(tmp_path / name, StoreSettings(), clock)) for name in ("a.duckdb", "b.duckdb")
    ]
    fill(made[0])
    yield made[0], made[1]
    for store in made:
        store.close()


def test_all_that_goes_out_comes_in_bit_for_bit_and_once(
    pair: tuple[TelemetryStore, TelemetryStore], tmp_path: Path
) -> None:
    source, target = pair
    first = moved(source, target, tmp_path)
    all_rows = {
        "metrics": 721, "logs": 6, "traces": 2, "changes": 2, "costs": 2, "exemplars": 5, "histograms": 4,
    }  # fmt: skip
    assert total(first, "added") == all_rows
    assert total(first, "known") == dict.fromkeys(EXPORTED, 0)
    assert everything(target) == everything(source)
    again = moved(source, target, tmp_path)
    assert total(again, "added") == {**dict.fromkeys(EXPORTED, 0), "costs": 2}
    assert total(again, "known") == {**all_rows, "costs": 0}
    assert everything(target) == everything(source)
    back = moved(target, source, tmp_path)
    assert total(back, "added")["logs"] == 0
    assert everything(target) == everything(source)


def test_a_part_holds_its_window_and_no_more(pair: tuple[TelemetryStore, TelemetryStore], tmp_path: Path) -> None:
    source, _ = pair
    parts = source.archive.plan(START, END, ("metrics",), LOCAL)
    assert [(a.end_ms, b.start_ms) for a, b in itertools.pairwise(parts) if a.end_ms != b.start_ms] == []
    assert parts[0].start_ms == START
    rows = [source.archive.write(part, LOCAL, tmp_path / "p.parquet") for part in parts]
    assert sum(rows) == 721
    assert all(part.end_ms - part.start_ms <= 2 * HOUR_MS for part in parts)
    with pytest.raises(InvalidInput, match="range is empty"):
        source.archive.plan(END, START, EXPORTED, LOCAL)


def test_a_scope_limits_every_signal(pair: tuple[TelemetryStore, TelemetryStore], tmp_path: Path) -> None:
    source, target = pair
    scoped = Principal("key:1", Role.VIEWER, (Matcher("job", MatchOp.EQUAL, "api"),))
    found = moved(source, target, tmp_path, scoped)
    assert total(found, "added") == {
        "metrics": 360, "logs": 3, "traces": 1, "changes": 2, "costs": 0, "exemplars": 2, "histograms": 2,
    }  # fmt: skip
    assert {dict(labels).get("job") for labels in target.select_series((), 0, 1 << 60, LOCAL)} == {"api"}
    nothing = narrowed(scoped, [Matcher("job", MatchOp.EQUAL, "db")])
    assert total(moved(source, target, tmp_path, nothing), "added") == dict.fromkeys(EXPORTED, 0), (
        "a matcher narrows, never widens"
    )


def test_rows_past_their_time_are_refused_and_counted(
    pair: tuple[TelemetryStore, TelemetryStore], tmp_path: Path, clock: Hands
) -> None:
    source, target = pair
    part = source.archive.plan(START, END, ("metrics",), LOCAL)[0]
    rows = source.archive.write(part, LOCAL, tmp_path / "p.parquet")
    clock.now = NOW + 40 * DAY_MS
    assert target.archive.read("metrics", tmp_path / "p.parquet") == Imported(0, 0, rows)


def test_a_file_that_is_no_part_is_refused(pair: tuple[TelemetryStore, TelemetryStore], tmp_path: Path) -> None:
    source, target = pair
    garbage = tmp_path / "garbage.parquet"
    garbage.write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(InvalidInput, match="cannot be read as Parquet"):
        target.archive.read("logs", garbage)
    logs = next(p for p in source.archive.plan(START, END, ("logs",), LOCAL))
    other = tmp_path / "logs.parquet"
    assert source.archive.write(Part("logs", logs.start_ms, END), LOCAL, other)
    with pytest.raises(InvalidInput, match="has not the columns of exported metrics"):
        target.archive.read("metrics", other)
    with PartWriter("logs", tmp_path) as writer:
        writer.add_rows([(NOW * 10**6, 9, "", "", "x", "[1, 2]", "{}", "", "")])
        writer.write(tmp_path / "crafted.parquet")
    with pytest.raises(InvalidInput, match="no export of logs"):
        target.archive.read("logs", tmp_path / "crafted.parquet")
