"""Fit, check, record, register, promote: one training of one named group of series.

The fitting is done in pieces (``fitting``), by default in worker processes that read the snapshot of the window and
hand their results to this process, which alone writes the registry.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiops.core.anomaly import Batch, State
from aiops.core.errors import AiopsError, InvalidInput, NotFound, PermanentError, TransientError
from aiops.core.model import Dataset, ModelUse, ModelVersion, UseKind
from aiops.core.ports import Clock, Detector, ModelMeter, system_clock
from aiops.jobs.compute import Compute, Data, Held, InThread
from aiops.models.code_version import code_version
from aiops.models.datasets import DatasetStore, content_hash
from aiops.models.fit_run import FitRun, Progress, silent
from aiops.models.fitting import Calibrate, refusal
from aiops.models.prices import Prices
from aiops.models.registry import CHALLENGER, ModelRegistry
from aiops.models.unfinished import Unfinished
from aiops.settings.models import ModelCostSettings

__all__ = ["UNREGISTERED", "Progress", "Request", "Trained", "Trainer", "silent"]

log = logging.getLogger(__name__)

UNREGISTERED = "unregistered"
"""Reference of a state that no registry holds."""
POINTS_PER_CPU_S = 400_000.0
"""Reckoned with before the first training of a model, to ask whether the budget allows it."""
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for a training, why, and what becomes of it.

    Attributes:
        as_challenger: the result never becomes champion by itself.
        warm: series that the champion knows keep their calibration, while that is young.
        folder: keeps what is done, so that the same request goes on there after a cut.
    """

    by: str = "system:aiops"
    reason: str = ""
    job: str = ""
    as_challenger: bool = False
    warm: bool = False
    folder: Path | None = None


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
        compute: where windows of at least ``least_points`` are fitted; others, and all without ``datasets``, are
            fitted in the calling thread.
        datasets: keeps the windows; worker processes read them there.
        meter: is asked before a training and told what it cost.
        calibration_days: how long a calibration may be taken over.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        detector: Detector[Any],
        stopwatch: Callable[[], float] = time.perf_counter,
        *,
        compute: Compute | None = None,
        least_points: int = 0,
        datasets: DatasetStore | None = None,
        meter: ModelMeter | None = None,
        prices: Prices | None = None,
        calibration_days: float = 7.0,
        clock: Clock = system_clock,
    ) -> None:
        self._registry = registry
        self._detector = detector
        self._stopwatch = stopwatch
        self._compute = compute or InThread()
        self._least_points = least_points
        self._datasets = datasets
        self._meter = meter
        self._prices = prices or Prices(ModelCostSettings())
        self._calibration_ms = calibration_days * DAY_MS
        self._clock = clock

    @property
    def registry(self) -> ModelRegistry:
        return self._registry

    def fit(self, batch: Batch, calibrate: Calibrate, progress: Progress | None = None) -> State:
        """The state of ``batch``, calibration included, without registering it, in the calling thread."""
        with tempfile.TemporaryDirectory(prefix="aiops-fit-") as place:
            run = FitRun(
                self._detector, self._stopwatch, progress or silent, Unfinished(Path(place) / "run"), InThread()
            )
            return run.fit(batch, Held(batch), calibrate, None)[0]

    def unfinished(self, folder: Path) -> tuple[Batch, str] | None:
        """The window and query of a training that was cut, to be given to :meth:`train` again; ``None`` without one."""
        plan = Unfinished(folder).plan()
        if self._datasets is None or "dataset" not in plan:
            return None
        try:
            return self._datasets.load(plan["dataset"]), self._datasets.get(plan["dataset"]).query
        except (NotFound, InvalidInput, TransientError) as error:
            log.warning("a training that was cut begins anew: %s", error)
            return None

    def train(
        self,
        name: str,
        batch: Batch,
        *,
        query: str,
        calibrate: Calibrate,
        progress: Progress | None = None,
        request: Request | None = None,
    ) -> Trained:
        """Fit ``batch`` and register it as the next version of ``name``.

        The first version becomes champion. A later one becomes challenger, and champion where the output
        checks pass and the request does not say otherwise. A registry that fails does not stop detection: the state
        is returned unregistered.

        Raises:
            InvalidInput: an empty batch.
            LimitExceeded: the budget does not allow it.
            TransientError: a worker died; the same request goes on where it stopped.
        """
        if not len(batch) or not batch.values.shape[1]:
            raise InvalidInput("There is nothing to train on.")
        report, asked = progress or silent, request or Request()
        champion = self._champion(name)
        points = int(batch.mask.sum())
        if self._meter is not None:
            self._meter.check(name, UseKind.TRAIN, asked.by, self._expected(champion, points))
        dataset = self._snapshot(name, batch, query)
        warm = self._warm_state(champion) if asked.warm else None
        small = batch.values.size < self._least_points or dataset is None
        compute = InThread() if small else self._compute
        data: Data[Batch] = Held(batch)
        if dataset is not None and self._datasets is not None and not small and compute.shares_disk:
            data = self._datasets.file(dataset)
        with tempfile.TemporaryDirectory(prefix="aiops-train-") as place:
            key = self._datasets.key if self._datasets else None
            work = Unfinished(asked.folder or Path(place) / "run", key)
            plan = self._plan(name, dataset, batch, champion if warm else None)
            resumed = work.plan().get("dataset") == plan["dataset"]
            work.begin(plan)
            run = FitRun(self._detector, self._stopwatch, report, work, compute)
            began, version = self._stopwatch(), ""
            try:
                state, checks, cold = run.fit(batch, data, calibrate, warm)
                metrics = {
                    "fit_seconds": self._stopwatch() - began,
                    "cpu_seconds": run.cpu_s,
                    "cost_usd": self._cost(run),
                    "series": float(len(batch)),
                    "points": float(points),
                    **checks,
                }
                report(0.95, "registering the model")
                source = dataset or content_hash(batch)
                before = self._registered(name, asked.job) if resumed else None
                trained = self._register(name, batch, state, metrics, asked, source, query, cold, before)
                version = trained.version.version if trained.version else ""
            finally:
                self._book(name, version, asked, run)
            work.forget()
        return trained

    # -------------------------------------------------------------- before

    def _champion(self, name: str) -> ModelVersion | None:
        try:
            return self._registry.get(name)
        except (TransientError, PermanentError):
            return None

    def _snapshot(self, name: str, batch: Batch, query: str) -> Dataset | None:
        if self._datasets is None:
            return None
        try:
            return self._datasets.snapshot(name, batch, query)
        except AiopsError as error:
            log.warning("the window of %s is not kept: %s", name, error)
            return None

    def _warm_state(self, champion: ModelVersion | None) -> State | None:
        """The champion's state, where its calibration is young and of the same code and options."""
        if champion is None or champion.family != self._detector.family:
            return None
        told = dict(champion.parameters)
        calibrated = int(told.get("calibrated_ms", "0"))
        if (
            told.get("options") != self._detector.options.model_dump_json()
            or told.get("code") != code_version()
            or self._clock() - calibrated > self._calibration_ms
        ):
            return None
        try:
            return self._registry.load_state(champion)
        except AiopsError as error:
            log.warning("the champion's calibration cannot be taken over: %s", error)
            return None

    def _plan(self, name: str, dataset: Dataset | None, batch: Batch, warm: ModelVersion | None) -> dict[str, str]:
        return {
            "model": name,
            "dataset": dataset.id if dataset else content_hash(batch),
            "family": self._detector.family,
            "options": self._detector.options.model_dump_json(),
            "code": code_version(),
            "warm": warm.reference if warm else "",
        }

    # -------------------------------------------------------------- after

    def _register(
        self,
        name: str,
        batch: Batch,
        state: State,
        metrics: Mapping[str, float],
        asked: Request,
        dataset: Dataset | str,
        query: str,
        cold: bool,
        before: ModelVersion | None,
    ) -> Trained:
        end_ms = int(batch.timestamps[-1])
        reason = refusal(metrics) or ("it was asked for as a challenger" if asked.as_challenger else "")
        champion = None
        try:
            champion = self._registry.get(name)
            calibrated = self._clock() if cold else int(dict(champion.parameters)["calibrated_ms"]) if champion else 0
            version = before or self._registry.log_training(
                name,
                state,
                family=self._detector.family,
                dataset=dataset,
                parameters={
                    "options": self._detector.options.model_dump_json(),
                    "step_ms": str(batch.step_ms),
                    "start_ms": str(int(batch.timestamps[0])),
                    "end_ms": str(end_ms),
                    "query": query[:4000],
                    "calibrated_ms": str(calibrated),
                    "reason": asked.reason[:500],
                    "by": asked.by,
                    "job": asked.job,
                },
                metrics=metrics,
                parent=champion.reference if champion else "",
            )
            first = champion is None and not asked.as_challenger
            if first or not reason:
                version = self._registry.promote(name, version.version)
            else:
                self._registry.set_alias(name, CHALLENGER, version.version)
            if self._datasets is not None:
                self._datasets.retain(name)
        except (TransientError, PermanentError) as error:
            log.warning("the model %s could not be registered: %s", name, error)
            return Trained(state, None, not reason, str(error), end_ms)
        served = first or not reason
        return Trained(state, version, served, "" if served else reason, end_ms)

    def _registered(self, name: str, job: str) -> ModelVersion | None:
        """The version that an earlier attempt of the job had registered when it was cut."""
        try:
            found = self._registry.versions(name) if job else []
        except (TransientError, PermanentError):
            return None
        return next((version for version in found if dict(version.parameters).get("job") == job), None)

    # -------------------------------------------------------------- money

    def _expected(self, champion: ModelVersion | None, points: int) -> float:
        measured = dict(champion.metrics) if champion else {}
        before = measured.get("points", 0.0)
        if before and "cost_usd" in measured:
            return measured["cost_usd"] / before * points
        return self._prices.cpu(points / POINTS_PER_CPU_S)

    def _cost(self, run: FitRun) -> float:
        return self._prices.cpu(run.cpu_s) + (self._prices.gpu(run.gpu, run.gpu_s) if run.gpu else 0.0)

    def _book(self, name: str, version: str, asked: Request, run: FitRun) -> None:
        """Also what was spent on a training that failed."""
        if self._meter is None or not run.cpu_s:
            return
        detail = {"job": asked.job, "reason": asked.reason, "gpu": run.gpu, "gpu_s": f"{run.gpu_s:.3f}"}
        told = tuple((key, value) for key, value in sorted(detail.items()) if value and value != "0.000")
        now, cost = self._clock(), self._cost(run)
        try:
            self._meter.record(
                ModelUse(name, version, UseKind.TRAIN, asked.by, now, run.cpu_s, "cpu-seconds", cost, detail=told)
            )
        except AiopsError as error:
            log.warning("the cost of a training of %s could not be booked: %s", name, error)
