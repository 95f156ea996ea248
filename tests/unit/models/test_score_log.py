from __future__ import annotations

from collections.abc import Mapping

from aiops.models.score_log import HOUR_MS, ScoreLog


def test_each_hour_of_a_principal_and_model_is_written_with_counts() -> None:
    now = [10 * HOUR_MS]
    lines: list[tuple[str, str, str, dict[str, str]]] = []

    def audit(actor: str, verb: str, model: str, details: Mapping[str, str]) -> None:
        lines.append((actor, verb, model, dict(details)))

    log = ScoreLog(audit, lambda: now[0])
    log.note("key:ann", "m", 3, 30)
    assert lines == [
        ("key:ann", "model.score", "m", {"hour_ms": str(now[0]), "requests": "1", "series": "3", "values": "30"})
    ]
    log.note("key:ann", "m", 4, 40)
    log.note("key:ann", "m", 5, 50)
    log.note("key:bob", "m", 1, 1)
    assert [line[0] for line in lines] == ["key:ann", "key:bob"]
    now[0] += HOUR_MS
    log.flush(over_ms=now[0])
    assert lines[2][3] == {"hour_ms": str(10 * HOUR_MS), "requests": "2", "series": "9", "values": "90"}
    log.note("key:ann", "m", 1, 1)
    log.note("key:ann", "m", 1, 1)
    log.flush()
    log.flush()
    assert len(lines) == 5 and lines[4][3]["requests"] == "1" and lines[4][3]["hour_ms"] == str(11 * HOUR_MS)
