from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops.models.guards import GUARDS, Outcome, evidence, guards, judge, wilson
from aiops.models.trial_record import PATIENCE, Observation, TrialRecord
from aiops.settings.models import DeploymentSettings

SETTINGS = DeploymentSettings()
IDS = [f"series-{n}" for n in range(40)]


def record() -> TrialRecord:
    return TrialRecord(3.0, 0.05, 3.0)


def look(
    kept: TrialRecord,
    stable: np.ndarray | None = None,
    candidate: np.ndarray | None = None,
    missing: np.ndarray | None = None,
    seconds: tuple[float, float] = (0.01, 0.01),
) -> None:
    none = np.zeros(len(IDS), bool)
    kept.observe(
        Observation(
            IDS,
            len(IDS),
            np.zeros(len(IDS), np.int64) if missing is None else missing,
            none if stable is None else stable,
            none if candidate is None else candidate,
            seconds,
            seconds,
        )
    )


@given(hits=st.integers(0, 200), misses=st.integers(0, 200), limit=st.floats(0.01, 0.95))
def test_evidence_grows_with_hits_and_falls_with_misses(hits: int, misses: int, limit: float) -> None:
    here = evidence(hits, hits + misses, limit)
    assert math.isfinite(here)
    assert evidence(hits + 1, hits + misses + 1, limit) > here > evidence(hits, hits + misses + 1, limit)


@pytest.mark.parametrize("limit", [0.01, 0.25, 2 / 3])
def test_a_share_at_its_limit_is_refused_as_seldom_as_stated(limit: float) -> None:
    rng = np.random.default_rng(5)
    hits = (rng.random((1500, 400)) < limit).cumsum(axis=1)
    looks = np.arange(1, 401)
    shares = limit + (1 - limit) * (np.arange(400) + 0.5) / 400
    gain, loss = np.log(shares / limit), np.log((1 - shares) / (1 - limit))
    needed = math.log(1 / 0.05)
    ever = np.zeros(len(hits), bool)
    for n in looks[::4]:
        h = hits[:, n - 1]
        ratio = h[:, None] * gain + (n - h)[:, None] * loss
        ever |= np.log(np.exp(ratio).mean(axis=1)) >= needed
    assert evidence(int(hits[0, -1]), 400, limit) == pytest.approx(
        float(np.log(np.exp(hits[0, -1] * gain + (400 - hits[0, -1]) * loss).mean()))
    )
    assert ever.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(hits))


def test_the_interval_is_wilsons() -> None:
    lower, upper = wilson(8, 10)
    assert (round(lower, 3), round(upper, 3)) == (0.490, 0.943)
    assert wilson(0, 0) == (0.0, 1.0) and wilson(0, 10)[0] == 0.0


def test_an_episode_that_both_see_speaks_against_neither() -> None:
    kept = record()
    for now in range(3 * PATIENCE):
        early = np.arange(len(IDS)) < 30
        look(kept, early & (now >= 2) & (now < 12), early & (now < 12))
    counts = kept.counts()
    assert (counts["both"], counts["candidate_alone"], counts["stable_alone"]) == (30, 0, 0)
    assert not any(g.broken for g in guards(kept, SETTINGS))


def test_an_episode_is_counted_once_however_long_it_lasts() -> None:
    kept = record()
    for _ in range(50):
        look(kept, candidate=np.arange(len(IDS)) < 3)
    assert kept.counts()["candidate_alone"] == 3 and kept.counts()["series_alone"] == 3


def test_a_candidate_that_alarms_everywhere_is_rolled_back_within_its_patience() -> None:
    kept = record()
    for now in range(PATIENCE):
        assert judge(kept, now * 60_000, SETTINGS).outcome is Outcome.GO_ON
        look(kept, candidate=np.ones(len(IDS), bool))
    verdict = judge(kept, PATIENCE * 60_000, SETTINGS)
    assert verdict.outcome is Outcome.ROLL_BACK and verdict.reason.startswith("alone: 40 of 40 (100%")


def test_slow_silent_failing_and_disbelieved_candidates_are_rolled_back() -> None:
    slow, silent, failing, fair = record(), record(), record(), record()
    for _ in range(15):
        look(slow, seconds=(0.01, 0.2))
        look(silent, missing=np.ones(len(IDS), np.int64))
        look(fair, seconds=(0.01, 0.02))
        failing.failed()
    assert judge(slow, 0, SETTINGS).reason.startswith("latency: 15 of 15")
    assert judge(silent, 0, SETTINGS).reason.startswith("nan: 40 of 40")
    assert judge(failing, 0, SETTINGS).reason.startswith("errors: 15 of 15")
    assert judge(fair, 0, SETTINGS, marks=(40, 41)).reason.startswith("precision: 40 of 41")
    assert {g.name for g in guards(fair, SETTINGS)} == set(GUARDS)


def test_two_fits_of_the_same_data_are_seldom_told_apart() -> None:
    """Faults that both see, noise that either sees alone at the same rate, in bursts over several series."""
    refused = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        kept = record()
        for _ in range(60):
            shared = rng.random(len(IDS)) < 0.02
            burst = (rng.random() < 0.1) * (rng.random(len(IDS)) < 0.05)
            alone = rng.random((2, len(IDS))) < 0.004
            for _ in range(PATIENCE):
                look(kept, shared | alone[0] | (burst > 0), shared | alone[1] | (burst > 0))
            look(kept)
        refused += judge(kept, 0, SETTINGS).outcome is Outcome.ROLL_BACK
    assert refused <= 4


def test_a_trial_ends_at_its_longest_time() -> None:
    kept = record()
    day = int(SETTINGS.max_time_s * 1000)
    assert judge(kept, day - 1, SETTINGS).outcome is Outcome.GO_ON
    late = judge(kept, day, SETTINGS)
    assert late.outcome is Outcome.ROLL_BACK and "only 0 of 1000 values" in late.reason
    for _ in range(30):
        look(kept)
    assert judge(kept, 3_599_000, SETTINGS).outcome is Outcome.GO_ON
    assert judge(kept, 3_600_000, SETTINGS).outcome is Outcome.PROMOTE
    by_hand = SETTINGS.model_copy(update={"auto_promote": False})
    assert judge(kept, 3_600_000, by_hand).outcome is Outcome.GO_ON
    assert "auto_promote is off" in judge(kept, day, by_hand).reason


def test_a_doubtful_candidate_is_not_promoted_and_goes_in_the_end() -> None:
    kept = record()
    for _ in range(30):
        look(kept, candidate=np.arange(len(IDS)) < 12)
    assert judge(kept, 3_600_000, SETTINGS).outcome is Outcome.GO_ON
    late = judge(kept, int(SETTINGS.max_time_s * 1000), SETTINGS)
    assert late.outcome is Outcome.ROLL_BACK and late.reason.startswith("alerts: 12 of 12 (100%")


def test_counts_go_on_after_a_restart() -> None:
    kept = record()
    look(kept, candidate=np.ones(len(IDS), bool))
    again = TrialRecord(3.0, 0.05, 3.0, kept.counts())
    assert again.counts() == kept.counts()
    look(again)
    assert again.counts()["calls"] == 2 and again.counts()["series"] == len(IDS)
