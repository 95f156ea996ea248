"""Templates in the store: ids on rows, definitions and counts over restarts, scopes, old rows, replays."""

from __future__ import annotations

import pytest

from aiops.core.errors import TransientError
from aiops.core.ports import Collected
from aiops.core.principal import LOCAL, Principal
from aiops.core.series import Matcher, MatchOp
from aiops.core.signals import LogQuery, LogRecord
from aiops.core.untrusted import Untrusted
from aiops.ingest.log_templates.miner import MinerState, TemplateMiner
from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_700_000_000_000
NAMES = ("ann", "bea", "cem", "dan", "eve", "fay", "gil", "hal", "ida", "jan")


class Times:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


def opened(path, times):
    store = TelemetryStore(TelemetryDatabase(path, StoreSettings(), times))
    known = store.log_templates()
    store.mine_logs_with(TemplateMiner(MinerState(tuple(k.template for k in known.all()), known.headers())))
    return store


def line(body, at=NOW, service="api", severity=9, team="a"):
    resource = (("service.name", service), ("team", team))
    return LogRecord(at * 1_000_000, Untrusted(body), severity, resource=resource)


@pytest.fixture
def times():
    return Times()


@pytest.fixture
def store(tmp_path, times):
    found = opened(tmp_path / "telemetry.duckdb", times)
    yield found
    found.close()


def test_patterns_are_templates_with_their_first_line(store):
    store.append(Collected(logs=tuple(line(f"job {i} took {i * 7} ms", NOW + i) for i in range(5))))
    (found,) = store.log_patterns(NOW, NOW + 100, LOCAL)
    assert found.pattern.raw == "job <*> took <*> ms"
    assert (found.count, found.first_ms, found.last_ms) == (5, NOW, NOW + 4)
    assert found.example.raw == "job 0 took 0 ms"
    assert found.template_id and found.known_ms == NOW
    assert {r.template_id for r in store.logs(LogQuery(NOW, NOW + 100), LOCAL)} == {found.template_id}


def test_lines_of_templates_that_became_one_are_counted_together(store):
    for i, name in enumerate(NAMES):
        store.append(Collected(logs=(line(f"opened for {name} by 1", NOW + i),)))
    (found,) = store.log_patterns(NOW, NOW + 100, LOCAL)
    assert (found.pattern.raw, found.count, found.first_ms) == ("opened for <*> by <*>", 10, NOW)


def test_templates_counts_and_ids_outlive_a_restart(tmp_path, times):
    path = tmp_path / "telemetry.duckdb"
    first = opened(path, times)
    first.append(Collected(logs=tuple(line(f"opened for {n} by 1") for n in NAMES)))
    (before,) = first.log_patterns(NOW, NOW + 100, LOCAL)
    first.close()
    times.now += 61_000
    again = opened(path, times)
    again.append(
        Collected(logs=(line("opened for someone else by 2", times.now), line("opened for zoe by 3", times.now)))
    )
    found = {p.template_id: p for p in again.log_patterns(NOW, times.now + 1, LOCAL)}
    assert found[before.template_id].count == 11
    assert found[before.template_id].known_ms == NOW
    known = again.log_templates().root(before.template_id)
    assert known is not None and known.count == 11 and known.last_ms == times.now
    again.close()


def test_a_replayed_body_adds_nothing(store):
    body = Collected(logs=(line("hello 1"),))
    store.append(body, key="k")
    store.append(body, key="k")
    (found,) = store.log_patterns(NOW, NOW + 100, LOCAL)
    known = store.log_templates().root(found.template_id)
    assert found.count == 1 and known is not None and known.count == 1


def test_a_scope_hides_the_lines_of_others_and_their_examples(store):
    store.append(Collected(logs=(line("order 1 of mallory", NOW, team="b"), line("order 2 of ann", NOW - 1, team="a"))))
    mine = Principal("x", "viewer", (Matcher("team", MatchOp.EQUAL, "a"),))
    (found,) = store.log_patterns(NOW - 10, NOW + 100, mine)
    assert found.count == 1 and "mallory" not in found.example.raw + found.pattern.raw


def test_rows_of_before_there_were_templates_stay_readable(tmp_path, times):
    path = tmp_path / "telemetry.duckdb"
    plain = TelemetryStore(TelemetryDatabase(path, StoreSettings(), times))
    plain.append(Collected(logs=(line("took 5 ms"), line("took 6 ms"))))
    day = NOW // 86_400_000
    plain.database.transaction(lambda tx: tx.con.execute(f"ALTER TABLE logs_{day} DROP COLUMN template_id"))
    plain.close()
    again = opened(path, times)
    again.append(Collected(logs=(line("took 7 ms"),)))
    assert {p.pattern.raw: p.count for p in again.log_patterns(NOW, NOW + 1, LOCAL)} == {
        "took <n> ms": 2,
        "took <*> ms": 1,
    }
    again.close()


def test_what_a_failed_commit_mined_is_kept_with_the_next(store, monkeypatch):
    save = store._signals.templates._save_headers

    def broken(tx):
        raise TransientError("no space")

    monkeypatch.setattr(store._signals.templates, "_save_headers", broken)
    with pytest.raises(TransientError):
        store.append(Collected(logs=(line("job 1 done"),)))
    monkeypatch.setattr(store._signals.templates, "_save_headers", save)
    store.append(Collected(logs=(line("job 2 done"),)))
    (found,) = store.log_patterns(NOW, NOW + 1, LOCAL)
    known = store.log_templates().root(found.template_id)
    assert found.count == 1 and known is not None and known.count == 1 and known.template.text.raw == "job <*> done"


def test_listeners_are_told_of_committed_rows_once(store):
    told = []
    store.when_stored(lambda logs, spans: told.append([r.body.raw for r in logs]))
    body = Collected(logs=(line("hello 1"),))
    store.append(body, key="k")
    store.append(body, key="k")
    assert told == [["hello 1"]]
