"""The drift watch: whether a champion still sees what it was trained on, and what follows where it does not.

The model's own outputs come first: how often it alarms, how high its scores are, how many of its alarms people found
true. Then its inputs: the values of each series (``drift_tests``), and how series of one service move together
(``drift_shape``). Drift that two checks in a row find asks for a training, whose result is a challenger. Not to be
confused with the drift of scores from one step to the next that moves thresholds (``incidents/drift.py``).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, Judgement, Mark
from aiops.core.errors import InvalidInput, NotFound
from aiops.core.model import DriftedSeries, DriftReport, DriftSignal, ModelVersion
from aiops.core.ports import Clock, system_clock
from aiops.models.detector_calls import Call, rows_of, run_together
from aiops.models.drift_shape import joint_p
from aiops.models.drift_tests import BLOCK, SeriesDrift, block_means, discoveries, series_drift
from aiops.models.guards import wilson
from aiops.models.loaded import Loaded
from aiops.settings.models import DriftSettings

log = logging.getLogger(__name__)

WORST = 20
CONTEXT_STEPS = 64
"""Steps before a stretch that its scores look back on."""
SCORED_POINTS = 4_000_000
"""Values of a stretch scored at most; of more series some are taken, evenly."""
LEAST_RATIO = 4
"""The training window is at least so many times as long as what is compared with it."""
MARKS_MS = 30 * 86_400_000
LEAST_MARKS, LEAST_EPISODES = 10, 10
Z = 2.5758
"""Of intervals: 99 %."""

Retrain = Callable[[str, str], None]
"""Asks for a training of a model, with the reason; its result must be a challenger."""


class Reports(Protocol):
    """Where the checks are kept."""

    def add(self, report: DriftReport) -> None: ...

    def list(self, model: str, limit: int = 100) -> Sequence[DriftReport]: ...


class Champions(Protocol):
    """The registry, as far as it is needed here."""

    def get(self, name: str, alias: str = "champion") -> ModelVersion | None: ...


@dataclass(frozen=True, slots=True)
class _Stretches:
    """The same series in the window of the training and now."""

    reference: Batch
    now: Batch


class DriftWatch:
    """Thread-safe.

    Args:
        load: a version, ready to score.
        window: the values that a version was trained on, by the id of its snapshot.
        recent: values of a version's series in ``[start_ms, end_ms)``; the query is empty.
        marks: people's judgements since a time.
        retrain: called when drift is confirmed.
    """

    def __init__(
        self,
        registry: Champions,
        load: Callable[[ModelVersion], Loaded],
        window: Callable[[str], Batch],
        recent: Callable[[Loaded, str, int, int], Batch],
        reports: Reports,
        settings: DriftSettings,
        *,
        marks: Callable[[int], Sequence[Mark]] = lambda _: (),
        retrain: Retrain | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._registry = registry
        self._load = load
        self._window = window
        self._recent = recent
        self._reports = reports
        self._settings = settings
        self._marks = marks
        self._retrain = retrain
        self._clock = clock

    def history(self, model: str, limit: int = 100) -> tuple[DriftReport, ...]:
        """Earlier checks, the newest first."""
        return tuple(self._reports.list(model, limit))

    def check(self, model: str) -> DriftReport:
        """Compare the last hours of the champion's series with its training window before them; the result is kept.

        Raises:
            NotFound: there is no champion, or its training window is not kept.
            InvalidInput: the window was changed, or none of its series has values now.
            TransientError: the metrics source cannot be read.
        """
        version = self._registry.get(model)
        if version is None:
            raise NotFound(f"There is no model '{model}' with a champion.")
        loaded, reference = self._load(version), self._window(version.dataset)
        step = reference.step_ms
        now = self._clock()
        end = now // step * step
        steps = min(int(self._settings.window_hours * 3_600_000) // step, reference.values.shape[1] // LEAST_RATIO)
        start = end - max(steps, 1) * step
        # Of a model that was trained lately, the last hours are part of the window: they are compared with the rest.
        reference = reference.steps(0, int(np.searchsorted(reference.timestamps, start)))
        recent = self._recent(loaded, "", start, end)
        both = _aligned(loaded, reference, recent)
        inputs = series_drift(
            _open(both.reference), _open(both.now), both.reference.timestamps, both.now.timestamps, step
        )
        found = inputs.drifted(self._settings.false_discovery_rate, self._settings.min_psi)
        signals = [*self._outputs(loaded, version, both, now), self._inputs(inputs, found), *self._shape(both)]
        drifted = any(signal.drifted for signal in signals)
        report = DriftReport(
            model=model,
            version=version.reference,
            time_ms=now,
            reference_start_ms=int(reference.timestamps[0]),
            reference_end_ms=int(reference.timestamps[-1]) + step,
            start_ms=start,
            end_ms=end,
            series=len(both.now),
            tested=int(inputs.tested.sum()),
            signals=tuple(signals),
            worst=_worst(both.now, inputs, found, step),
            drifted=drifted,
        )
        report = self._answered(report)
        self._reports.add(report)
        return report

    # ------------------------------------------------------------------ outputs

    def _outputs(self, loaded: Loaded, version: ModelVersion, both: _Stretches, now_ms: int) -> list[DriftSignal]:
        size = max(SCORED_POINTS // max(both.now.values.shape[1], 1), 1)
        rows = np.unique(np.linspace(0, len(both.now) - 1, min(size, len(both.now))).round().astype(np.int64)).tolist()
        if loaded.detector.joint:
            rows = list(range(len(both.now)))
        length, steps = both.now.values.shape[1], both.reference.values.shape[1]
        before = rows_of(both.reference, rows).steps(max(steps - 3 * length, 0), steps)
        after = rows_of(both.now, rows)
        scores = []
        for part in (before, after):
            score = run_together([Call(loaded, part)])[0].score
            scores.append(score[:, min(CONTEXT_STEPS, score.shape[1] // 4) :])
        return [
            self._alarms(loaded, after.series_ids, scores[0], scores[1], before.step_ms),
            self._scores(scores[0], scores[1], before, after),
            self._precision(version, now_ms),
        ]

    def _alarms(
        self,
        loaded: Loaded,
        ids: Sequence[str],
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        step_ms: int,
    ) -> DriftSignal:
        limit = self._settings.max_alert_ratio
        if loaded.thresholds is None:
            return DriftSignal("alert rate", float("nan"), limit, False, "the model is not calibrated")
        level = loaded.thresholds[[loaded.rows[key] for key in ids]][:, None]
        (was, was_days), (now, now_days) = (_episodes(score, level, step_ms) for score in (before, after))
        if not was_days or not now_days:
            return DriftSignal("alert rate", float("nan"), limit, False, "nothing was scored")
        ratio = (now + 0.5) / now_days / ((was + 0.5) / was_days)
        # Were the ratio at its limit, this share of all episodes would be now.
        expected = limit * now_days / (limit * now_days + was_days)
        drifted = now >= LEAST_EPISODES and wilson(now, now + was, Z)[0] > expected
        told = f"{now} episodes in {now_days:.1f} series-days, {was} in {was_days:.1f} before"
        return DriftSignal("alert rate", ratio, limit, drifted, told)

    def _scores(self, before: NDArray[np.float32], after: NDArray[np.float32], was: Batch, now: Batch) -> DriftSignal:
        chosen = self._settings
        times = was.timestamps[-before.shape[1] :], now.timestamps[-after.shape[1] :]
        tests = series_drift(before, after, *times, was.step_ms, upwards=True, seasons=False)
        high = tests.drifted(chosen.false_discovery_rate, chosen.min_psi)
        share = float(high.sum() / max(tests.tested.sum(), 1))
        tail = np.nanquantile(after, 0.99) if np.isfinite(after).any() else float("nan")
        usual = np.nanquantile(before, 0.99) if np.isfinite(before).any() else float("nan")
        told = f"{int(high.sum())} of {int(tests.tested.sum())} series; 99 % quantile {tail:.3g}, {usual:.3g} before"
        return DriftSignal("scores", share, chosen.max_share, share > chosen.max_share, told)

    def _precision(self, version: ModelVersion, now_ms: int) -> DriftSignal:
        last: dict[str, Judgement] = {}
        for mark in self._marks(now_ms - MARKS_MS):
            if mark.anomaly_id and mark.model == version.reference:
                last[mark.anomaly_id] = mark.judgement
        true, least = sum(said is Judgement.TRUE for said in last.values()), self._settings.min_precision
        if not last:
            return DriftSignal("confirmed precision", float("nan"), least, False, "no marks")
        upper = wilson(true, len(last), Z)[1]
        drifted = len(last) >= LEAST_MARKS and upper < least
        return DriftSignal(
            "confirmed precision", true / len(last), least, drifted, f"{true} of {len(last)} marked true"
        )

    # ------------------------------------------------------------------ inputs

    def _inputs(self, inputs: SeriesDrift, found: NDArray[np.bool_]) -> DriftSignal:
        tested = int(inputs.tested.sum())
        share = float(found.sum() / max(tested, 1))
        told = f"{int(found.sum())} of {tested} series have drifted"
        return DriftSignal("inputs", share, self._settings.max_share, share > self._settings.max_share, told)

    def _shape(self, both: _Stretches) -> list[DriftSignal]:
        members: dict[str, list[int]] = {}
        for row, group in enumerate(both.now.groups):
            if group:
                members.setdefault(group, []).append(row)
        rows = {group: found for group, found in members.items() if len(found) > 1}
        if not rows:
            return []
        width = max(1, min(BLOCK, both.now.values.shape[1] // 96))
        early = block_means(_open(both.reference).astype(np.float64), width)
        late = block_means(_open(both.now).astype(np.float64), width)
        names = sorted(rows)[: self._settings.max_groups]
        p = np.array([joint_p(early[rows[name]], late[rows[name]]) for name in names])
        hit = discoveries(p, p < 1.0, self._settings.false_discovery_rate)
        share = float(hit.sum() / len(names))
        worst = ", ".join(names[n] for n in np.argsort(p)[:3] if hit[n])
        told = f"{int(hit.sum())} of {len(names)} services move together otherwise" + (f": {worst}" if worst else "")
        return [DriftSignal("joint shape", share, self._settings.max_share, share > self._settings.max_share, told)]

    # ------------------------------------------------------------------ what follows

    def _answered(self, report: DriftReport) -> DriftReport:
        """Ask for a training where drift is confirmed and the last one is long enough ago."""
        if not report.drifted:
            return report
        chosen = self._settings
        before = self.history(report.model, chosen.confirmations + 50)
        same = [one for one in before if one.version == report.version]
        run = [report, *same][: chosen.confirmations]
        confirmed = len(run) == chosen.confirmations and all(one.drifted for one in run)
        report = dataclasses.replace(report, confirmed=confirmed)
        if not confirmed or self._retrain is None:
            return report
        asked = next((one.time_ms for one in before if one.action.startswith("training")), None)
        if asked is not None and report.time_ms - asked < chosen.rest_hours * 3_600_000:
            return dataclasses.replace(report, action="rest: a training was asked for lately")
        reason = "drift of " + ", ".join(signal.name for signal in report.signals if signal.drifted)
        self._retrain(report.model, reason)
        log.info("%s is trained again: %s", report.model, reason)
        return dataclasses.replace(report, action=f"training asked for: {reason}")


def _aligned(loaded: Loaded, reference: Batch, now: Batch) -> _Stretches:
    """The series that both have and the model knows, in one order. Raises ``InvalidInput`` where there are none."""
    first = {key: row for row, key in enumerate(reference.series_ids)}
    rows = [row for row, key in enumerate(now.series_ids) if key in first and key in loaded.rows]
    if not rows or not now.mask[rows].any():
        raise InvalidInput(f"None of the series of {loaded.reference} has values now.")
    before = rows_of(reference, [first[now.series_ids[row]] for row in rows])
    return _Stretches(before, dataclasses.replace(rows_of(now, rows), groups=before.groups))


def _open(batch: Batch) -> NDArray[np.float32]:
    """Values with NaN where nothing was observed."""
    return np.where(batch.mask, batch.values, np.float32(np.nan)).astype(np.float32, copy=False)


def _episodes(score: NDArray[np.float32], level: NDArray[np.float64], step_ms: int) -> tuple[int, float]:
    """Times at which a series' score rises above its threshold, and the series-days in which it might have."""
    above = np.where(np.isfinite(score), score, 0.0) >= level
    rises = above[:, 1:] & ~above[:, :-1]
    return int(rises.sum() + above[:, 0].sum()) if score.shape[1] else 0, float(
        np.isfinite(score).sum() * step_ms / 86_400_000
    )


def _worst(now: Batch, tests: SeriesDrift, found: NDArray[np.bool_], step_ms: int) -> tuple[DriftedSeries, ...]:
    rows = sorted(np.flatnonzero(found).tolist(), key=lambda row: -tests.psi[row])[:WORST]
    end = int(now.timestamps[-1]) + step_ms

    def since(row: int) -> int | None:
        share = tests.changed[row]
        return end - round(share * now.values.shape[1]) * step_ms if np.isfinite(share) else None

    return tuple(
        DriftedSeries(
            now.series_ids[row], float(tests.p[row]), float(tests.psi[row]), float(tests.shift[row]), since(row)
        )
        for row in rows
    )
