"""States in service kept as checkpoints, and taken up again where their scores are fit to be served.

The output checks compare a checkpoint with its version on the steps just past: a state that leaves points without a
score, or under which many more of them would alarm, is refused, whatever its signature says.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.errors import AiopsError, Conflict, Forbidden, InvalidInput, TransientError
from aiops.core.model import ModelVersion
from aiops.incidents.fleet import Fleet
from aiops.incidents.tails import tail_of
from aiops.incidents.thresholds import Direction, Judge, Policy
from aiops.incidents.watched import WatchedGroup
from aiops.models.checkpoints import Checkpoints
from aiops.models.registry import ModelRegistry
from aiops.store.state.checkpoints import Checkpoint

log = logging.getLogger(__name__)

PROBE_STEPS = 240
"""Steps just past on which a checkpoint is compared with its version."""
WAIT_S = 20.0
"""How long a restoration waits for a training in hand."""
UNSCORED_LIMIT = 0.001
"""Share of the points which the version scores that a checkpoint may leave without a score."""
ALARM_LIMIT = 0.02
"""Share of the points that may be above the threshold beyond twice the version's share."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A state to serve in place of its version's, and the last step that it has seen."""

    state: State
    last_ms: int
    checkpoint: Checkpoint


class StateKeeper:
    """Keeps and restores. Calls are made off the loop's thread.

    Args:
        checkpoints: ``None`` where nothing is kept.
    """

    def __init__(self, fleet: Fleet, policy: Policy, registry: ModelRegistry, checkpoints: Checkpoints | None) -> None:
        self._fleet = fleet
        self._policy = policy
        self._registry = registry
        self._checkpoints = checkpoints

    def keep(self, group: WatchedGroup, why: str) -> Checkpoint | None:
        """Keep the state that serves a group; what cannot be written is told in the log."""
        with self._fleet.stepping:
            served = self._fleet.scorer.served(group.model)
            if self._checkpoints is None or served is None or "/" not in served.reference:
                return None
            state = _copied(served.state)
        detail = {"why": why, "end_ms": str(served.last_ms), "series": str(len(state.series_ids))}
        try:
            version = self._registry.lookup(served.reference)
            detail["options"] = dict(version.parameters).get("options", "{}")
            return self._checkpoints.save(group.model, version.reference, state, version.family, detail)
        except AiopsError as error:
            log.warning("the state of %s could not be kept: %s", group.model, error)
            return None

    def newest(self, group: WatchedGroup, reference: str, base: State) -> Kept | None:
        """The newest checkpoint of a version that is fit to be served; refused ones are told in the log."""
        if self._checkpoints is None:
            return None
        for checkpoint in self._checkpoints.list(group.model):
            if checkpoint.version != reference:
                continue
            try:
                return self._checked(group, checkpoint, base, must_read=False)
            except AiopsError as error:
                log.warning("%s", error)
        return None

    def restore(self, model: str, checkpoint_id: int, by: str) -> Checkpoint:
        """Serve a checkpoint of the version in service, and keep it as the newest.

        Raises:
            NotFound: no such checkpoint.
            Conflict: the model is not in service, or by another version.
            InvalidInput: it is refused, with the reason.
        """
        fleet, group = self._fleet, next((g for g in self._fleet.groups if g.model == model), None)
        if group is None or self._checkpoints is None:
            raise Conflict(f"The model '{model}' is not in service, so that nothing can be restored.")
        checkpoint = self._checkpoints.get(model, checkpoint_id)
        if not fleet.training.acquire(timeout=WAIT_S):
            raise Conflict(f"The model '{model}' is being trained.", hint="Restore the checkpoint afterwards.")
        try:
            served = fleet.scorer.served(model)
            if served is None or served.reference != checkpoint.version:
                raise Conflict(
                    f"The checkpoint {checkpoint_id} is of {checkpoint.version}, which is not in service.",
                    hint=f"Promote {checkpoint.version} first.",
                )
            base = self._registry.load_state(self._version(checkpoint))
            kept = self._checked(group, checkpoint, base)
            state = _copied(kept.state)  # what serves moves on with every step
            with fleet.stepping:
                fleet.scorer.serve(model, kept.state, checkpoint.version, kept.last_ms)
                if not group.install(kept.state, fleet.beside(group)):
                    fleet.scorer.serve(model, served.state, served.reference, served.last_ms)
                    raise InvalidInput(f"The checkpoint {checkpoint_id} is of another watch list.")
        finally:
            fleet.training.release()
        fleet.share_budget()
        detail = {"why": f"restored from {checkpoint_id}", "by": by, "end_ms": str(kept.last_ms)}
        version = self._version(checkpoint)
        detail["options"] = dict(version.parameters).get("options", "{}")
        return self._checkpoints.save(model, checkpoint.version, state, version.family, detail)

    def _version(self, checkpoint: Checkpoint) -> ModelVersion:
        return self._registry.lookup(checkpoint.version)

    def _checked(self, group: WatchedGroup, checkpoint: Checkpoint, base: State, *, must_read: bool = True) -> Kept:
        """Raises ``InvalidInput`` with the reason why a checkpoint is refused, or what reading it raises.

        Args:
            must_read: without it a source that cannot be read leaves it at signature and shape.
        """
        assert self._checkpoints is not None
        state = self._checkpoints.load(checkpoint, base)
        try:
            reason = self._unfit(group, state, base)
        except (KeyError, ValueError) as error:
            reason = f"it cannot be scored with ({error!r})"
        except (TransientError, Forbidden):
            if must_read:
                raise
            reason = ""
        if reason:
            raise InvalidInput(
                f"The checkpoint {checkpoint.id} of {checkpoint.version} is refused: {reason}.",
                hint="Restore an earlier one; see `aiops models checkpoints`.",
            )
        told = dict(checkpoint.detail).get("end_ms", "")
        return Kept(state, int(told) if told.isdigit() else checkpoint.created_ms, checkpoint)

    def _unfit(self, group: WatchedGroup, state: State, base: State) -> str:
        """Why a state must not be served in place of its version's, by its scores; empty where it may."""
        row = {key: number for number, key in enumerate(state.series_ids)}
        if missing := [key for key in base.series_ids if key not in row]:
            return f"{len(missing)} series of its version are missing"
        fleet, end = self._fleet, self._fleet.closed(group, self._fleet.now())
        start = end - (PROBE_STEPS - 1) * group.step_ms
        readings = fleet.read(group, group.present or group.entries, start, end)
        wide, narrow = readings.batch(state.series_ids), readings.batch(base.series_ids)
        mine, theirs = fleet.scorer.score_with(state, wide), fleet.scorer.score_with(base, narrow)
        scored = narrow.mask & np.isfinite(theirs.score)
        lost = scored & ~np.isfinite(mine.score[[row[key] for key in base.series_ids]])
        return unfit(
            float(lost.sum() / max(scored.sum(), 1)),
            self._alarms(state, wide, mine, group),
            self._alarms(base, narrow, theirs, group),
        )

    def _alarms(self, state: State, probe: Batch, scores: Scores, group: WatchedGroup) -> float:
        """Share of the scored points that are above the threshold of their series."""
        size = len(probe)
        tail = tail_of(state.select(probe.series_ids))
        anything = Direction(np.zeros(size, np.int8), np.zeros(size), np.zeros(size))
        limit = Judge(tail, anything, self._policy, group.step_ms, size).threshold
        scored = probe.mask & np.isfinite(scores.score)
        return float((scored & (np.where(scored, scores.score, 0.0) >= limit[:, None])).sum() / max(scored.sum(), 1))


def unfit(lost: float, alarms: float, usual: float) -> str:
    """The output checks; empty where a state may serve in place of its version's.

    Args:
        lost: share of the points which the version scores that get no score.
        alarms, usual: share of the points above the threshold, by the state and by its version.
    """
    if lost > UNSCORED_LIMIT:
        return f"{lost:.1%} of the points that its version scores get no score"
    if alarms > 2 * usual + ALARM_LIMIT:
        return f"{alarms:.0%} of the last points would be above the threshold, {usual:.0%} by its version"
    return ""


def _copied(state: State) -> State:
    return replace(state, arrays={k: v.copy() for k, v in state.arrays.items()}, shared=dict(state.shared))
