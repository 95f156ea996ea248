"""Fit, check, record, register, promote: one training of one named group of series."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops import __version__
from aiops.core.anomaly import Batch, State
from aiops.core.errors import InvalidInput, PermanentError, TransientError
from aiops.core.model import ModelVersion
from aiops.core.ports import Detector
from aiops.models.registry import CHALLENGER, ModelRegistry

log = logging.getLogger(__name__)

Calibrate = Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.generic]]]
"""Out-of-sample scores [S, T] of the training window to arrays [S, ...] kept in the state."""
Progress = Callable[[float, str], None]
"""Share done in [0, 1], and what is going on."""

FOLDS = 3
"""Parts of the window; each is scored by a fit to the others, to calibrate, before all of it is fitted to serve."""
CONTEXT_STEPS = 1024
"""Steps before a part that its scores may look back on."""
CHUNK_POINTS = 2_000_000
HIGH_QUANTILE = 0.99
HIGH_SHARE_LIMIT = 0.25
"""A version stays challenger where more of the held-out scores exceed the fitted part's 99 % quantile."""
UNREGISTERED = "unregistered"
"""Reference of a state that no registry holds."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A fitted state. ``version`` is ``None`` where the registry could not be reached; ``reason`` says why
    it is not the champion, if it is not."""

    state: State
    version: ModelVersion | None
    champion: bool
    reason: str = ""
    end_ms: int = 0

    @property
    def reference(self) -> str:
        return self.version.reference if self.version else UNREGISTERED


class Trainer:
    """Trains one detector. Thread-safe as far as the detector is.

    Args:
        detector: what is fitted.
        registry: where versions go.
        stopwatch: seconds, for the run's metrics.
    """

    def __init__(
        self, registry: ModelRegistry, detector: Detector[Any], stopwatch: Callable[[], float] = time.perf_counter
    ) -> None:
        self._registry = registry
        self._detector = detector
        self._stopwatch = stopwatch

    @property
    def registry(self) -> ModelRegistry:
        return self._registry

    def fit(self, batch: Batch, calibrate: Calibrate, progress: Progress | None = None) -> State:
        """The state of ``batch``, calibration included, without registering it."""
        return self._fit(batch, calibrate, progress or silent)[0]

    def train(
        self, name: str, batch: Batch, *, query: str, calibrate: Calibrate, progress: Progress | None = None
    ) -> Trained:
        """Fit ``batch`` and register it as the next version of ``name``.

        The first version becomes champion. A later one becomes challenger, and champion where the output
        checks pass. A registry that fails does not stop detection: the state is returned unregistered.

        Raises:
            InvalidInput: an empty batch.
        """
        if not len(batch) or not batch.values.shape[1]:
            raise InvalidInput("There is nothing to train on.")
        report = progress or silent
        begin = self._stopwatch()
        state, checks = self._fit(batch, calibrate, report)
        metrics = {
            "fit_seconds": self._stopwatch() - begin,
            "series": float(len(batch)),
            "points": float(batch.mask.sum()),
            **checks,
        }
        reason = refusal(checks)
        report(0.95, "registering the model")
        end_ms = int(batch.timestamps[-1])
        parameters = {
            "options": self._detector.options.model_dump_json(),
            "step_ms": str(batch.step_ms),
            "start_ms": str(int(batch.timestamps[0])),
            "end_ms": str(end_ms),
            "query": query[:4000],
            "code": __version__,
        }
        try:
            champion = self._registry.get(name)
            version = self._registry.log_training(
                name,
                state,
                family=self._detector.family,
                dataset=content_hash(batch),
                parameters=parameters,
                metrics=metrics,
                parent=champion.reference if champion else "",
            )
            if champion is None or not reason:
                version = self._registry.promote(name, version.version)
            else:
                self._registry.set_alias(name, CHALLENGER, version.version)
        except (TransientError, PermanentError) as error:
            log.warning("the model %s could not be registered: %s", name, error)
            return Trained(state, None, not reason, str(error), end_ms)
        served = champion is None or not reason
        return Trained(state, version, served, "" if served else reason, end_ms)

    def _fit(self, batch: Batch, calibrate: Calibrate, report: Progress) -> tuple[State, dict[str, float]]:
        states: list[State] = []
        scores: list[NDArray[np.float32]] = []
        for start, end in parts_of(batch):
            part = batch.rows(start, end)
            report(0.9 * start / len(batch), f"fitting {len(batch)} series")
            scores.append(held_out_scores(self._detector, part))
            states.append(self._detector.fit(part))
        joined = _join(states)
        score = np.concatenate(scores)
        extra = calibrate(score)
        state = State(joined.series_ids, joined.step_ms, {**joined.arrays, **extra}, joined.shared)
        return state, output_checks(score, batch.mask, batch.values.shape[1] * (FOLDS - 1) // FOLDS)


def parts_of(batch: Batch) -> list[tuple[int, int]]:
    """First row and end of the parts that are fitted in one go; a group that follows itself stays whole if it fits."""
    rows = max(1, CHUNK_POINTS // max(batch.values.shape[1], 1))
    parts, start = [], 0
    while start < len(batch):
        end = min(start + rows, len(batch))
        cut = end
        if end < len(batch) and batch.groups:
            while cut > start and batch.groups[cut - 1] == batch.groups[cut]:
                cut -= 1
        parts.append((start, cut if cut > start else end))
        start = parts[-1][1]
    return parts


def held_out_scores(detector: Detector[Any], batch: Batch) -> NDArray[np.float32]:
    """Scores [S, T], each by a fit that did not see it: a part of the window is hidden, the rest fitted.

    A fit to the window's beginning alone would not do: it lacks the rhythms that only the whole window shows, and
    with them the errors that they bring.
    """
    steps = batch.values.shape[1]
    edges = [steps * k // FOLDS for k in range(FOLDS + 1)]
    parts = []
    for start, end in itertools.pairwise(edges):
        hidden = batch.mask.copy()
        hidden[:, start:end] = False
        state = detector.fit(dataclasses.replace(batch, mask=hidden))
        first = max(start - CONTEXT_STEPS, 0)
        parts.append(detector.score(state, batch.steps(first, end)).score[:, start - first :])
    return np.concatenate(parts, axis=1)


def output_checks(score: NDArray[np.float32], mask: NDArray[np.bool_], cut: int) -> dict[str, float]:
    """Share of observed points without a finite score, and of held-out scores above the fitted part's 99 %."""
    finite = np.isfinite(score)
    missing = float((mask & ~finite).sum() / max(mask.sum(), 1))
    early = np.sort(np.where(finite[:, :cut], score[:, :cut], np.inf), axis=1)
    count = finite[:, :cut].sum(1)
    if not early.size:
        return {"unscored_share": missing, "high_share": 0.0}
    place = np.floor(HIGH_QUANTILE * np.maximum(count - 1, 0)).astype(np.int64)
    level = np.take_along_axis(early, place[:, None], 1)
    late = finite[:, cut:] & (count > 0)[:, None]
    high = late & (np.where(finite[:, cut:], score[:, cut:], 0.0) > level)
    return {"unscored_share": missing, "high_share": float(high.sum() / max(late.sum(), 1))}


def refusal(checks: Mapping[str, float]) -> str:
    """Why a version with these checks must not be promoted by itself; empty where it may."""
    if checks["unscored_share"] > 0.001:
        return f"{checks['unscored_share']:.1%} of the observed points got no score"
    if checks["high_share"] > HIGH_SHARE_LIMIT:
        return f"{checks['high_share']:.0%} of the held-out scores are above the fitted part's 99 % quantile"
    return ""


def content_hash(batch: Batch) -> str:
    """SHA-256 over ids, times, mask and the observed values."""
    digest = hashlib.sha256()
    digest.update("\n".join(batch.series_ids).encode("utf-8", "surrogatepass"))
    for array in (batch.timestamps, batch.mask, np.where(batch.mask, batch.values, np.float32(0))):
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{digest.hexdigest()}"


def silent(_share: float, _text: str) -> None:
    """Progress that nobody watches."""


def _join(states: list[State]) -> State:
    first = states[0]
    ids = tuple(i for state in states for i in state.series_ids)
    arrays = {k: np.concatenate([state.arrays[k] for state in states]) for k in first.arrays}
    return State(ids, first.step_ms, arrays, first.shared)
