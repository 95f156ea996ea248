from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiops.core.anomaly import Batch, State
from aiops.core.errors import InvalidInput, LimitExceeded, NotFound, TransientError
from aiops.core.model import DeploymentState, ModelVersion, Strategy
from aiops.models.deployments import share_of
from aiops.models.detector_calls import Call, rows_of, run_together
from aiops.models.loaded import Loaded, LoadedModels
from aiops.models.scoring import ScoringService
from aiops.models.served_before import ServedBefore
from aiops.settings.models import ServingSettings
from tests.unit.models.serving_house import (
    IDS,
    START,
    STEP,
    STEPS,
    THRESHOLD,
    Ground,
    House,
    detector_of,
    fusion,
    state,
    values,
)

LIVE = START + STEPS * STEP


@pytest.fixture
def house(ground: Ground) -> Iterator[House]:
    made = House(ground, {"min_sample": 500, "min_time_s": 60})
    made.champion()
    yield made
    made.close()


def until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def loaded(house: House) -> Loaded:
    version = house.registry.get(house.name)
    assert version is not None
    return house.models.get(version)


def test_scores_are_those_of_the_detector(house: House) -> None:
    batch = values(LIVE, 60)
    found = house.service.score(house.name, batch)
    wanted = fusion().score(state(), batch)
    assert [one.series_id for one in found] == list(IDS)
    assert {one.served_by for one in found} == {"stable"} and {one.reference for one in found} == {f"{house.name}/1"}
    for row, one in enumerate(found):
        np.testing.assert_array_equal(one.score, wanted.score[row])
        np.testing.assert_array_equal(one.lower, wanted.lower[row])
        assert one.terms.keys() == wanted.terms.keys() and one.threshold == THRESHOLD


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mine=st.lists(st.integers(0, len(IDS) - 1), min_size=1, max_size=8, unique=True),
    others=st.lists(st.lists(st.integers(0, len(IDS) - 1), min_size=1, max_size=24, unique=True), max_size=5),
    place=st.integers(0, 5),
    gaps=st.integers(0, 2**32 - 1),
)
def test_scores_do_not_depend_on_what_a_request_was_batched_with(
    house: House, mine: list[int], others: list[list[int]], place: int, gaps: int
) -> None:
    version = loaded(house)
    batch = values(LIVE, 50)
    batch.mask[:] = np.random.default_rng(gaps).random(batch.mask.shape) < 0.9
    call = Call(version, rows_of(batch, mine))
    calls = [Call(version, rows_of(batch, rows)) for rows in others]
    calls.insert(min(place, len(calls)), call)
    alone = run_together([call])[0]
    together = run_together(calls)[calls.index(call)]
    np.testing.assert_array_equal(alone.score, together.score)
    np.testing.assert_array_equal(alone.expected, together.expected)
    for name, term in alone.terms.items():
        np.testing.assert_array_equal(term, together.terms[name])


def test_requests_at_the_same_time_share_calls(ground: Ground) -> None:
    house = House(ground, serving={"window_ms": 50})
    try:
        house.champion()
        house.service.warm(house.name)
        batch = values(LIVE, 30)
        threads = [
            threading.Thread(target=house.service.score, args=(house.name, rows_of(batch, [n])))
            for n in range(len(IDS))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        load = house.service.state().stable
        assert load.done == len(IDS) and load.calls < len(IDS) / 3
    finally:
        house.close()


def test_series_that_no_version_knows_get_no_score(house: House) -> None:
    batch = values(LIVE, 10, 2)
    batch = Batch(batch.values, batch.mask, batch.timestamps, STEP, (IDS[0], "stranger"))
    known, stranger = house.service.score(house.name, batch)
    assert known.served_by == "stable" and np.isfinite(known.score).all()
    assert stranger.served_by == "" and np.isnan(stranger.score).all()


def test_what_cannot_be_scored_says_why(house: House) -> None:
    batch = values(LIVE, 10)
    with pytest.raises(NotFound, match="nothing"):
        house.service.score("nothing", batch)
    with pytest.raises(NotFound):
        house.service.score(house.name, batch, version="77")
    with pytest.raises(InvalidInput, match="60000 ms, not every 30000"):
        house.service.score(house.name, Batch(batch.values, batch.mask, batch.timestamps, 30_000, batch.series_ids))
    with pytest.raises(TransientError, match="no time"):
        house.service.score(house.name, batch, deadline_s=0.0)


def test_a_full_queue_sheds_load(ground: Ground) -> None:
    house = House(ground, serving={"max_waiting": 2, "deadline_ms": 5000, "request_points": 300})
    try:
        number = house.add("slow")
        house.registry.promote(house.name, number)
        house.service.warm(house.name)
        batch = values(LIVE, 10)
        with pytest.raises(LimitExceeded, match="too many") as large:
            house.service.score(house.name, values(LIVE, 20))
        assert large.value.kind == "size"
        refused: list[LimitExceeded] = []

        def ask() -> None:
            try:
                house.service.score(house.name, batch)
            except LimitExceeded as error:
                refused.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused and all(e.kind == "rate" and (e.retry_after_s or 0) >= 1 for e in refused)
        assert house.service.state().shed == len(refused)
    finally:
        house.close()


def test_a_canary_serves_its_share_and_the_same_series_again(house: House) -> None:
    house.add()
    house.deployments.start(house.name, "2", Strategy.CANARY, 0.4, "key:ann")
    batch = values(LIVE, 30)
    first = {one.series_id: one.served_by for one in house.service.score(house.name, batch)}
    assert first == {one.series_id: one.served_by for one in house.service.score(house.name, batch)}
    wanted = {key for key in IDS if share_of(house.name, key) < 0.4}
    assert {key for key, by in first.items() if by == "candidate"} == wanted and 0 < len(wanted) < len(IDS)
    assert house.deployments.serves(house.name, min(wanted)) == "candidate"


def test_a_good_candidate_is_promoted_by_itself_and_serves_on(house: House) -> None:
    house.add()
    trial = house.deployments.start(house.name, "2", Strategy.SHADOW, by="key:ann")
    batch = values(LIVE, 30)
    assert {one.served_by for one in house.service.score(house.name, batch)} == {"stable"}
    until(lambda: house.deployments.record(house.name).counts()["points"] >= 500)  # type: ignore[union-attr]
    assert house.deployments.tick(house.now + 59_000) == []
    house.now += 61_000
    (over,) = house.deployments.tick(house.now)
    assert (over.id, over.state) == (trial.id, DeploymentState.PROMOTED)
    assert "every guard held" in over.reason and dict(over.measures)["points"] >= 500
    champion = house.registry.get(house.name)
    assert champion is not None and champion.version == "2"
    assert {one.reference for one in house.service.score(house.name, batch)} == {f"{house.name}/2"}
    assert [entry[1] for entry in house.told] == ["model.shadow", "model.promote"]


@pytest.mark.parametrize(
    ("kind", "guard"), [("alarms", "al"), ("slow", "latency"), ("nan", "nan"), ("fails", "errors")]
)
def test_a_bad_candidate_fails_no_request_and_is_rolled_back_by_itself(house: House, kind: str, guard: str) -> None:
    house.add(kind)
    trial = house.deployments.start(house.name, "2", Strategy.BLUE_GREEN, by="key:ann")
    batch = values(LIVE, 30)
    over = []
    for _ in range(60):
        found = house.service.score(house.name, batch)
        assert all(np.isfinite(one.score).all() for one in found)
        if kind in ("nan", "fails"):
            assert {one.served_by for one in found} == {"stable"}
        over = house.deployments.tick(house.now)
        if over:
            break
        time.sleep(0.02)
    assert [o.state for o in over] == [DeploymentState.ROLLED_BACK]
    assert over[0].reason.startswith(guard) and "limit" in over[0].reason
    assert house.deployments.get(trial.id).incident == "INC-1" and house.blamed[0].id == trial.id
    assert [v.aliases for v in house.registry.versions(house.name)] == [(), ("champion",)]
    assert {one.served_by for one in house.service.score(house.name, batch)} == {"stable"}
    champion = house.registry.get(house.name)
    assert champion is not None and champion.version == "1"


def test_promotion_and_rollback_fail_no_request_while_the_endpoint_is_hammered(house: House) -> None:
    house.add(scale=1.1)
    batch = values(LIVE, 30, 8)
    failures: list[BaseException] = []
    served: set[str] = set()
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            try:
                served.update(one.reference for one in house.service.score(house.name, batch))
            except Exception as error:  # noqa: BLE001  (none may fail, in any way)
                failures.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        trial = house.deployments.start(house.name, "2", Strategy.CANARY, 0.5, "key:ann")
        until(lambda: f"{house.name}/2" in served)
        house.deployments.promote(trial.id, "key:ann")
        until(lambda: house.service.state().champions[house.name] == f"{house.name}/2")
        house.registry.rollback(house.name)
        house.service.follow()
        served.clear()
        until(lambda: f"{house.name}/1" in served)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_candidate_whose_artifact_was_changed_is_not_tried(ground: Ground, house: House) -> None:
    house.add()
    for file in (ground.folder / "models").rglob("state.safetensors"):
        if f"{house.registry.version(house.name, '2').run_id}" in str(file):
            file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(InvalidInput):
        house.deployments.start(house.name, "2", Strategy.SHADOW, by="key:ann")
    assert house.deployments.running(house.name) is None


def test_the_first_score_after_a_restart_waits_for_no_registry(house: House, ground: Ground, tmp_path: Path) -> None:
    batch = values(LIVE, 20)
    house.service.score(house.name, batch)
    house.service.stop()
    file = ground.folder / f"{house.name}.json"

    class Away:
        """A registry that answers nothing but hands out artifacts."""

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the registry was asked for {name}")

        def load_state(self, version: ModelVersion) -> State:
            return house.registry.load_state(version)

    models = LoadedModels(Away(), detector_of, lambda s: None, 4)
    again = ScoringService(models, house.deployments, ServingSettings(), before=ServedBefore(file))
    again.start()
    try:
        assert {one.reference for one in again.score(house.name, batch)} == {f"{house.name}/1"}
    finally:
        again.stop()
    number = house.add()
    house.registry.promote(house.name, number)
    house.before = ServedBefore(file)
    house.service = house.made()
    house.service.start()
    assert {one.reference for one in house.service.score(house.name, batch)} == {f"{house.name}/1"}
    house.service.follow()
    assert {one.reference for one in house.service.score(house.name, batch)} == {f"{house.name}/2"}
    assert ServedBefore(file).get(house.name) == house.registry.get(house.name)
    broken = tmp_path / "serving.json"
    broken.write_text("{")
    assert ServedBefore(broken).get(house.name) is None
