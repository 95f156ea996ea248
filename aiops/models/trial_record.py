"""What a trial has seen so far: calls, values and episodes of both versions on the same series."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATIENCE = 5
"""Looks at a series for which an episode of one version waits for the other to see it as well."""
LATENCIES = 512
"""Latest calls whose times are kept."""
COUNTS = (
    "calls", "errors", "slow", "dear", "points", "nan_points", "series", "both", "candidate_alone", "stable_alone",
    "series_alone",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Observation:
    """One call of both versions with the same series.

    Attributes:
        series_ids: length S.
        points: observed values.
        missing: int64 [S], values that only the stable version gave a score.
        stable, candidate: bool [S], whether the latest score is above the version's threshold.
        seconds, processor: of the stable version's call and the candidate's.
    """

    series_ids: Sequence[str]
    points: int
    missing: NDArray[np.int64]
    stable: NDArray[np.bool_]
    candidate: NDArray[np.bool_]
    seconds: tuple[float, float]
    processor: tuple[float, float]


@dataclass(slots=True)
class _Episode:
    stable: bool = False
    candidate: bool = False
    looks: int = 0
    counted: bool = False


class TrialRecord:
    """Thread-safe. Counts survive a restart (:meth:`counts`, ``counts`` of the constructor); open episodes do not.

    Args:
        slow_ratio, slow_s: a call is slow where it takes ``slow_ratio`` times the stable version's and ``slow_s``.
        dear_ratio: a call is dear where it takes so many times the stable version's processor time.
        counts: of an earlier process.
    """

    def __init__(
        self, slow_ratio: float, slow_s: float, dear_ratio: float, counts: Mapping[str, float] | None = None
    ) -> None:
        self._slow_ratio, self._slow_s, self._dear_ratio = slow_ratio, slow_s, dear_ratio
        self._count = Counter({name: int((counts or {}).get(name, 0)) for name in COUNTS})
        self._before = (self._count["series"], self._count["series_alone"])
        self._series: set[str] = set()
        self._missing: Counter[str] = Counter()
        self._alone: set[str] = set()
        self._open: dict[str, _Episode] = {}
        self._times: deque[tuple[float, float]] = deque(maxlen=LATENCIES)
        self._lock = threading.Lock()

    def observe(self, seen: Observation) -> None:
        """Count one call that both versions answered."""
        with self._lock:
            count = self._count
            count["calls"] += 1
            count["points"] += seen.points
            count["nan_points"] += int(seen.missing.sum())
            stable_s, candidate_s = seen.seconds
            count["slow"] += candidate_s > self._slow_s and candidate_s > self._slow_ratio * stable_s
            # The clock of processor time is coarse: below a millisecond nothing is dear.
            count["dear"] += seen.processor[1] > max(self._dear_ratio * seen.processor[0], 1e-3)
            self._times.append(seen.seconds)
            self._series.update(seen.series_ids)
            for row in np.flatnonzero(seen.missing).tolist():
                self._missing[seen.series_ids[row]] += int(seen.missing[row])
            self._pair(seen)

    def failed(self) -> None:
        """Count a call that the candidate did not answer, or not in time."""
        with self._lock:
            self._count["calls"] += 1
            self._count["errors"] += 1

    def _pair(self, seen: Observation) -> None:
        rows = set(np.flatnonzero(seen.stable | seen.candidate).tolist())
        if self._open:
            rows |= {row for row, key in enumerate(seen.series_ids) if key in self._open}
        for row in rows:
            key = seen.series_ids[row]
            episode = self._open.setdefault(key, _Episode())
            episode.stable |= bool(seen.stable[row])
            episode.candidate |= bool(seen.candidate[row])
            episode.looks += 1
            quiet = not (seen.stable[row] or seen.candidate[row])
            if not episode.counted and (episode.looks >= PATIENCE or quiet):
                episode.counted = True
                if episode.stable and episode.candidate:
                    self._count["both"] += 1
                elif episode.candidate:
                    self._count["candidate_alone"] += 1
                    self._alone.add(key)
                else:
                    self._count["stable_alone"] += 1
            if quiet:
                del self._open[key]

    def counts(self) -> dict[str, int]:
        """By the names of ``COUNTS``."""
        with self._lock:
            series, alone = self._before
            return {
                **self._count,
                "series": max(series, len(self._series)),
                "series_alone": min(max(alone, len(self._alone)), max(series, len(self._series))),
            }

    def series_without(self, share: float) -> int:
        """Series to which the candidate gave no score for more than ``share`` of the values that they have on
        average."""
        with self._lock:
            usual = self._count["points"] / max(len(self._series), 1)
            return sum(missing > share * usual for missing in self._missing.values())

    def latencies(self) -> dict[str, float]:
        """Seconds of the latest calls, 50 % and 99 %, of both versions; empty before the first."""
        with self._lock:
            times = np.array(self._times)
        if not len(times):
            return {}
        found = np.quantile(times, [0.5, 0.99], axis=0)
        names = ("stable_p50_s", "candidate_p50_s", "stable_p99_s", "candidate_p99_s")
        return dict(zip(names, map(float, found.ravel()), strict=True))
