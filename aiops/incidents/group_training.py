"""Training of the watched groups on their trailing window, and of series that come later."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch
from aiops.core.errors import NotFound, TransientError
from aiops.incidents.checkpointing import StateKeeper
from aiops.incidents.fleet import Fleet
from aiops.incidents.habits import habits
from aiops.incidents.readings import together
from aiops.incidents.tails import calibrate
from aiops.incidents.thresholds import Policy
from aiops.incidents.watched import WatchedGroup, entries_of, ripe
from aiops.models.training import Progress, Request, Trainer, silent
from aiops.settings import DetectionSettings

log = logging.getLogger(__name__)

MAX_POINTS = 20_160
"""Longest training window in steps: fourteen days of minutes."""


class GroupTraining:
    """Fits groups and puts the result in service, off the loop's thread.

    Args:
        keeper: keeps what serves when series have joined it.
        stopping: set where a training in hand is to be given up at its next part.
    """

    def __init__(
        self,
        fleet: Fleet,
        trainer: Trainer,
        policy: Policy,
        settings: DetectionSettings,
        keeper: StateKeeper,
        stopping: threading.Event,
    ) -> None:
        self._fleet = fleet
        self._keeper = keeper
        self._trainer = trainer
        self._calibrator = Calibrator(policy.min_duration_steps, policy.resolve_after_steps)
        self._settings = settings
        self._stopping = stopping

    def train(
        self, now_ms: int, progress: Progress | None = None, request: Request | None = None, model: str = ""
    ) -> int:
        """Fit every group, or that of ``model``, on its trailing window and put the result in service; returns the
        series now watched.

        A group with no series of at least ``min_points`` is left as it is.

        Raises:
            NotFound: no group has that model.
            TransientError: the source cannot be read, or the loop is stopping; what was in service stays.
        """
        report, asked = progress or silent, request or Request()
        groups = [group for group in self._fleet.groups if model in ("", group.model)]
        if not groups:
            known = ", ".join(group.model for group in self._fleet.groups)
            raise NotFound(f"No group of series has the model '{model}'.", hint=f"There are: {known}.")
        with self._fleet.training:
            for number, group in enumerate(groups):

                def part(share: float, text: str, number: int = number) -> None:
                    if self._stopping.is_set():
                        raise TransientError("Detection is stopping.")
                    report((number + share) / len(groups), text)

                self._train_group(group, now_ms, part, asked)
        report(1.0, "done")
        return self._fleet.watched

    def _train_group(self, group: WatchedGroup, now_ms: int, report: Progress, request: Request) -> None:
        fleet = self._fleet
        if request.folder is not None:
            request = replace(request, folder=request.folder / group.model)
        found = self._window_of(group, now_ms, report, request)
        if found is None:
            return
        batch, query = found
        trained = self._trainer.train(
            group.model,
            batch,
            query=query,
            calibrate=self._calibrator,
            progress=lambda share, text: report(0.3 + 0.7 * share, text),
            request=request,
        )
        if not trained.champion and (request.as_challenger or fleet.scorer.served(group.model) is not None):
            log.warning("the new version of %s stays challenger: %s", group.model, trained.reason)
            return
        with fleet.stepping:
            fleet.scorer.serve(group.model, trained.state, trained.reference, trained.end_ms)
            group.install(trained.state, fleet.beside(group))
            group.last_ms, group.judged_ms = trained.end_ms, max(group.judged_ms, trained.end_ms)
        fleet.share_budget()

    def _window_of(
        self, group: WatchedGroup, now_ms: int, report: Progress, request: Request
    ) -> tuple[Batch, str] | None:
        """The trailing window and its queries, or those that the same training had before it was cut; ``None`` where
        there is too little to train on."""
        if request.folder is not None and (begun := self._trainer.unfinished(request.folder)) is not None:
            with self._fleet.stepping:
                group.present = group.present or group.entries
            return begun
        fleet = self._fleet
        report(0.0, "looking for metrics to watch")
        end, start = self._window(group, now_ms)
        fleet.look_for_more(group, now_ms)
        present = fleet.reader.existing(group.entries, now_ms)
        readings = fleet.read(group, present, start, end, lambda share, text: report(0.3 * share, text))
        ids, warming = ripe(readings, self._settings.min_points)
        with fleet.stepping:
            group.present = present
            for key in warming:
                group.warming.setdefault(key, end + self._settings.min_points * group.step_ms)
        if not ids:
            return None
        return readings.batch(*together(ids)), "\n".join(entry.query for entry in present)

    def join_new(self, now_ms: int) -> int:
        """Fit the new series that have enough points, alone, and watch them too; returns how many joined."""
        with self._fleet.training:
            joined = sum(self._join(group, now_ms) for group in self._fleet.groups if group.judge is not None)
        self._fleet.share_budget()
        return joined

    def _join(self, group: WatchedGroup, now_ms: int) -> int:
        fleet = self._fleet
        fleet.look_for_more(group, now_ms)
        present = fleet.reader.existing(group.entries, now_ms)
        with fleet.stepping:
            group.present = present
            due = set(group.due(now_ms))
        if not due:
            return 0
        end, start = self._window(group, now_ms)
        readings = fleet.read(group, entries_of(sorted(due), present), start, end)
        ids = [key for key in ripe(readings, self._settings.min_points)[0] if key in due]
        fresh = readings.batch(*together(ids))
        state = self._trainer.fit(fresh, self._calibrator) if ids else None
        with fleet.stepping:
            for key in due:
                group.warming[key] = now_ms + self._settings.min_points * group.step_ms // 4
            if state is None:
                return 0
            group.install(fleet.scorer.join(group.model, state), fleet.beside(group))
        self._keeper.keep(group, f"{len(ids)} series joined")
        return len(ids)

    def _window(self, group: WatchedGroup, now_ms: int) -> tuple[int, int]:
        """End and start of the training window."""
        end = self._fleet.closed(group, now_ms)
        steps = max(min(int(self._settings.train_window_s * 1000) // group.step_ms, MAX_POINTS), 1)
        return end, end - (steps - 1) * group.step_ms


@dataclass(frozen=True)
class Calibrator:
    """What is kept of the training window beside the models: the tails of its scores, its gaps and flat runs."""

    min_duration_steps: int
    resolve_after_steps: int

    def __call__(self, batch: Batch, score: NDArray[np.float32] | None) -> Mapping[str, NDArray[np.generic]]:
        own = habits(batch.values, batch.mask)
        if score is None:
            return own
        return {**calibrate(score, self.min_duration_steps, self.resolve_after_steps), **own}
