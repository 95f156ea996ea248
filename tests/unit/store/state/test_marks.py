from __future__ import annotations

from dataclasses import replace

from aiops.core.anomaly import Judgement, Mark
from aiops.store.state.database import StateDatabase
from aiops.store.state.marks import MarkRepository

MARK = Mark("a-1", Judgement.FALSE, "ann", 100, "latency", (("service", "x\ud800"),), "x", 1, 2, "m/1", "a\x00b")


def test_marks_come_back_and_a_second_opinion_replaces_the_first(database: StateDatabase) -> None:
    marks = MarkRepository(database)
    marks.save(MARK)
    assert marks.of("a-1") == (MARK,)
    later = replace(MARK, judgement=Judgement.TRUE, time_ms=200)
    marks.save(later)
    bob = replace(MARK, principal="bob", time_ms=150)
    marks.save(bob)
    assert marks.of("a-1") == (bob, later)
    assert marks.since(160) == (later,)
    assert marks.of("a-2") == ()


def test_missed_ones_are_all_kept(database: StateDatabase) -> None:
    marks = MarkRepository(database)
    missed = replace(MARK, anomaly_id="", judgement=Judgement.MISSED)
    marks.save(missed)
    marks.save(missed)
    assert marks.since(0) == (missed, missed)
