"""A series that always moved and stands still: dead sensors, stalled counters' rates, frozen exporters, and gaps.

What is measured is how long the value has been exactly the same, and how long none has come, against the longest
such stretches that are usual for this series (the 99 % quantile over stretches, so that one long outage in the
history does not count as usual). A series that never moved, or stands still often, has no unusual stillness. Where
nothing was observed the score is NaN, as the contract asks; the ``gap`` term speaks at the first value after it.
"""

from __future__ import annotations

import torch
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support.device import Choice, observed, resolve, to_array
from detectors.support.robust import forward_filled, quantiles
from detectors.support.states import check, pick, scores_of, state_of


class StillnessOptions(PluginOptions):
    device: Choice = "auto"
    patience_steps: int = Field(8, ge=1)
    """Steps beyond the usual that are one unit of the score's excess."""
    least_moves: int = Field(16, ge=1)
    """Changes of value that must have been seen before standing still means anything."""


class Stillness(Detector[StillnessOptions]):
    """Unusually long flat lines and gaps."""

    Options = StillnessOptions
    family = "stillness"
    calibrated = True

    def __init__(self, options: StillnessOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._device = resolve(options.device)

    def fit(self, batch: Batch) -> State:
        values, mask = observed(batch, self._device)
        start = torch.zeros_like(values[:, 0]) if values.shape[1] else values.new_zeros(len(batch))
        flat, gap, last = self._stretches(values, mask, torch.full_like(start, torch.nan), start, start)
        ends = mask & (torch.nn.functional.pad(flat, (0, 1), value=1.0)[:, 1:] <= flat)
        after_gap = mask & (gap > 0)
        usual = torch.stack([quantiles(flat, ends, (0.99,))[:, 0], quantiles(gap, after_gap, (0.99,))[:, 0]], 1)
        moves = (mask & (flat == 1)).sum(1)
        last_flat, last_gap = _final(flat, gap, mask)
        arrays = {
            "usual": usual,
            "moved": moves >= self.options.least_moves,
            "last": last,
            "flat": last_flat,
            "gap": last_gap,
        }
        return state_of(batch, arrays)

    def score(self, state: State, batch: Batch) -> Scores:
        check(state, batch)
        arrays = pick(state, self._device)
        values, mask = observed(batch, self._device)
        none = torch.zeros_like(arrays["flat"])
        flat, gap, _ = self._stretches(values, mask, torch.full_like(none, torch.nan), none, none)
        return self._scores(arrays, values, flat, gap, mask)

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        check(state, tick)
        arrays = pick(state, self._device)
        values, mask = observed(tick, self._device)
        flat, gap, last = self._stretches(values, mask, arrays["last"], arrays["flat"], arrays["gap"])
        now = mask[:, 0]
        changed = {
            "last": last,
            "flat": torch.where(now, flat[:, 0], arrays["flat"]),
            "gap": torch.where(now, 0.0, arrays["gap"] + 1),
        }
        kept = {**state.arrays, **{k: to_array(v) for k, v in changed.items()}}
        return State(state.series_ids, state.step_ms, kept, state.shared), self._scores(arrays, values, flat, gap, mask)

    def _stretches(
        self, values: torch.Tensor, mask: torch.Tensor, last: torch.Tensor, flat: torch.Tensor, gap: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Observed values in a row that are the same, and unobserved steps just before, [S, T]; the last value [S]."""
        size = values.shape[1]
        if not size:
            return values, values, last
        known = ~last.isnan()
        seen = torch.cat([known[:, None], mask], 1)
        line = torch.cat([torch.where(known, last, 0.0)[:, None], values], 1)
        filled = forward_filled(line, seen, line[:, 0])
        moved = mask & ((filled[:, 1:] != filled[:, :-1]) | ~seen.cummax(1).values[:, :-1])
        count = mask.cumsum(1, dtype=torch.int32).to(values.dtype)
        since = torch.where(moved, count, 0.0).cummax(1).values
        run = torch.where(since > 0, count - since + 1, flat[:, None] + count)
        place = torch.arange(1, size + 1, device=values.device, dtype=values.dtype)
        before = torch.where(seen, torch.arange(size + 1, device=values.device, dtype=values.dtype), -1.0)
        latest = before.cummax(1).values[:, :-1]
        missing = torch.where(latest > 0, place - 1 - latest, place - 1 + gap[:, None] * known[:, None])
        # Before the first value there is no gap.
        missing = torch.where(latest >= 0, missing, 0.0)
        return run, missing, torch.where(seen.any(1), filled[:, -1], torch.nan)

    def _scores(
        self,
        arrays: dict[str, torch.Tensor],
        values: torch.Tensor,
        flat: torch.Tensor,
        gap: torch.Tensor,
        mask: torch.Tensor,
    ) -> Scores:
        moved = arrays["moved"][:, None]
        excess = []
        for number, stretch in enumerate((flat, gap)):
            usual = arrays["usual"][:, number, None]
            beyond = (stretch - 1.5 * usual).clamp(min=0.0) / (usual + self.options.patience_steps)
            excess.append(torch.where(moved, beyond, 0.0).log1p())
        score = torch.stack(excess).sum(0)
        # A dead line is as expected as any value: the band says nothing of it.
        half = torch.zeros_like(values)
        return scores_of(mask, score, values, half, {"flat": excess[0], "gap": excess[1]})


def _final(flat: torch.Tensor, gap: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The stretch of equal values and the gap that reach the end of the batch, [S]."""
    if not mask.shape[1]:
        return mask.new_zeros(len(mask), dtype=flat.dtype), mask.new_zeros(len(mask), dtype=flat.dtype)
    size = mask.shape[1]
    place = torch.where(mask, torch.arange(size, device=mask.device), -1).amax(1)
    seen = place >= 0
    run = flat.gather(1, place.clamp(min=0)[:, None])[:, 0]
    return torch.where(seen, run, 0.0), torch.where(seen, size - 1 - place, 0).to(gap.dtype)
