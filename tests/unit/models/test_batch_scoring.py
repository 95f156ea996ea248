from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

from aiops.core.anomaly import Batch
from aiops.core.errors import InvalidInput, NotFound
from aiops.core.model import ModelUse, UseKind
from aiops.jobs.processes import Processes
from aiops.models.batch_scoring import ScoreBatches
from aiops.models.loaded import Loaded
from tests.unit.models.serving_house import IDS, START, STEP, STEPS, Ground, House, fusion, state, values

LIVE = START + STEPS * STEP
RESULT = "0" * 32


class Meter:
    def __init__(self) -> None:
        self.booked: list[ModelUse] = []

    def check(self, model: str, kind: UseKind, principal: str, expected_cost: float) -> None:
        assert kind is UseKind.BATCH

    def record(self, use: ModelUse) -> None:
        self.booked.append(use)


@pytest.fixture
def house(ground: Ground) -> Iterator[House]:
    made = House(ground)
    made.champion()
    yield made
    made.close()


def read(model: Loaded, query: str, start_ms: int, end_ms: int) -> Batch:
    if query:
        raise InvalidInput(f"not trained on '{query}'")
    batch = values(start_ms, (end_ms - start_ms) // STEP)
    batch.values[3, 40:44] += 50
    return Batch(batch.values, batch.mask, batch.timestamps, STEP, (*IDS[:-1], "stranger"))


def arguments(house: House, **more: str) -> dict[str, str]:
    span = {"start_ms": str(LIVE), "end_ms": str(LIVE + 60 * STEP)}
    return {"result": RESULT, "model": house.name, "by": "key:ann", **span, **more}


def silent(_share: float | None = None, _line: str = "") -> None:
    return


def test_a_batch_keeps_what_is_above_its_threshold(house: House, tmp_path: Path) -> None:
    meter = Meter()
    batches = ScoreBatches(house.models, read, tmp_path, meter=meter, price=lambda seconds: seconds)
    batches.run(arguments(house), silent)
    found = batches.summary(RESULT)
    assert (found.series, found.unknown, found.values) == (len(IDS), 1, (len(IDS) - 1) * 60)
    assert found.top[0].series == IDS[3] and found.top[0].above >= 4 and found.above == found.rows
    (tmp_path / "copy.parquet").write_bytes(batches.parquet(RESULT))
    rows = duckdb.sql(f"SELECT series, epoch_ms(time) AS ms, value, score FROM '{tmp_path}/copy.parquet'").fetchall()
    assert len(rows) == found.rows and {r[0] for r in rows if r[3] > 5.5} <= {IDS[3]}
    batch = read(house.models.get(house.registry.version(house.name, "1")), "", LIVE, LIVE + 60 * STEP)
    wanted = fusion().score(state(), Batch(batch.values, batch.mask, batch.timestamps, STEP, IDS)).score
    for series, ms, _, score in rows:
        assert score == wanted[IDS.index(series), (ms - LIVE) // STEP]
    assert batches.csv(RESULT).decode().splitlines()[0].startswith("series,time,value,score")
    (use,) = meter.booked
    assert (use.kind, use.principal, use.quantity) == (UseKind.BATCH, "key:ann", found.values) and use.cost > 0


def test_every_value_is_kept_where_asked(house: House, tmp_path: Path) -> None:
    batches = ScoreBatches(house.models, read, tmp_path)
    batches.run(arguments(house, values="true"), silent)
    assert batches.summary(RESULT).rows == (len(IDS) - 1) * 60
    assert len(batches.csv(RESULT).splitlines()) == (len(IDS) - 1) * 60 + 1


def test_many_blocks_give_what_one_gives(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes()
    whole = ScoreBatches(house.models, read, tmp_path / "a")
    parts = ScoreBatches(house.models, read, tmp_path / "b", compute=processes)
    whole.run(arguments(house, values="true"), silent)
    monkeypatch.setattr("aiops.models.batch_scoring.BLOCK_VALUES", 5 * 60)
    parts.run(arguments(house, values="true"), silent)
    parts.close()
    assert sorted(whole.csv(RESULT).splitlines()) == sorted(parts.csv(RESULT).splitlines())
    assert not list((tmp_path / "b").rglob("*.part"))
    one, other = (json.loads(next(p.rglob("summary.json")).read_text()) for p in (tmp_path / "a", tmp_path / "b"))
    del one["seconds"], other["seconds"]
    assert one == other and np.isfinite(one["top"][0]["highest"])


def test_what_cannot_be_scored_says_why(house: House, tmp_path: Path) -> None:
    batches = ScoreBatches(house.models, read, tmp_path)
    with pytest.raises(InvalidInput, match="ends before"):
        batches.run(arguments(house, end_ms="0"), silent)
    with pytest.raises(InvalidInput, match="not trained on"):
        batches.run(arguments(house, query="up"), silent)
    with pytest.raises(NotFound):
        batches.run(arguments(house, model="nothing"), silent)
    for result in ("1" * 32, "../../etc/passwd"):
        with pytest.raises(NotFound):
            batches.summary(result)
