"""Distance to the nearest of a bank of normal windows: k nearest neighbours in the space of shapes.

Windows of 16 samples, at one and at several steps a sample, are compared with a bank that was taken evenly from the
history, less the stretches that are themselves far from all others. Distances are matrix products, so a GPU pays;
on the CPU it costs more than all other members together and is left out of the fusion there. Sources: k-NN distance
(Ramaswamy and others 2000), discord search (Keogh and others 2005).
"""

from __future__ import annotations

import torch
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support.calibration import combine, scale_of
from detectors.support.device import Choice, observed, resolve
from detectors.support.resident import back
from detectors.support.robust import forward_filled, level, trailing_means
from detectors.support.states import check, pick, scores_of, state_of

CLIP = 16.0
CHUNK_BYTES = 16 << 20
TRIM = 0.1
"""Share of the candidate windows that is left out of the bank for being unlike the others."""


class WindowBankOptions(PluginOptions):
    device: Choice = "auto"
    width: int = Field(16, ge=4, le=64)
    steps: tuple[int, ...] = (1, 4)
    """Steps a sample, one bank each."""
    size: int = Field(40, ge=4, le=1024)
    """Windows in a bank; 40 of 16 samples at two resolutions are 2.6 kB a series."""
    neighbours: int = Field(3, ge=1)
    relative_floor: float = Field(0.002, gt=0)
    range_floor: float = Field(0.02, ge=0)
    band: float = Field(3.0, gt=0)


class WindowBank(Detector[WindowBankOptions]):
    """k-NN distance to a bank of normal windows."""

    Options = WindowBankOptions
    family = "window_bank"
    calibrated = True

    def __init__(self, options: WindowBankOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._device = resolve(options.device)
        self._ring = options.width * max(options.steps)
        self.spans = {_name(options.width, step): options.width * step for step in options.steps}

    def fit(self, batch: Batch) -> State:
        values, mask = observed(batch, self._device)
        centre, unit, _ = level(values, mask, self.options.relative_floor, self.options.range_floor)
        arrays = {"centre": centre, "unit": unit, "seen": mask.any(1)}
        x, first = self._filled(arrays, values, mask)
        last = (torch.where(mask, torch.arange(x.shape[1], device=x.device), 0)).amax(1)
        begin = mask.to(torch.int8).argmax(1)
        for step in self.options.steps:
            line = self._line(x, first, step)
            bank = self._bank(line, begin, last, step)
            # Halves hold three digits, which is more than the spread of the nearest distances needs.
            arrays[f"bank.{step}"] = bank.half()
        parts = self._parts(arrays, x, first)
        arrays["part_median"], arrays["part_gap"] = scale_of(parts, mask, self.spans)
        arrays["recent"] = torch.cat([first[:, None].expand(-1, self._ring), x], 1)[:, -self._ring :].contiguous()
        return state_of(batch, arrays)

    def score(self, state: State, batch: Batch) -> Scores:
        check(state, batch)
        arrays = pick(state, self._device)
        values, mask = observed(batch, self._device)
        x, first = self._filled(arrays, values, mask)
        return self._scores(arrays, self._parts(arrays, x, first), mask)

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        check(state, tick)
        arrays = pick(state, self._device)
        values, mask = observed(tick, self._device)
        x = ((values - arrays["centre"][:, None]) / arrays["unit"][:, None]).clamp(-CLIP, CLIP)
        recent = torch.cat([arrays["recent"][:, 1:], torch.where(mask, x, arrays["recent"][:, -1:])], 1)
        width = self.options.width
        parts = {}
        for step in self.options.steps:
            window = recent[:, -width * step :].view(len(recent), width, step).mean(2)
            parts[_name(width, step)] = self._distance(window[:, None], arrays[f"bank.{step}"].float())
        kept = {**state.arrays, "recent": back(recent)}
        return State(state.series_ids, state.step_ms, kept, state.shared), self._scores(arrays, parts, mask)

    def _filled(
        self, arrays: dict[str, torch.Tensor], values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scaled values without gaps, and the first of them [S]."""
        x = ((values - arrays["centre"][:, None]) / arrays["unit"][:, None]).clamp(-CLIP, CLIP)
        x = torch.where(mask, x, 0.0)
        first = torch.where(mask.any(1), x.gather(1, mask.to(torch.int8).argmax(1, keepdim=True))[:, 0], 0.0)
        return forward_filled(x, mask, first), first

    def _line(self, x: torch.Tensor, first: torch.Tensor, step: int) -> torch.Tensor:
        """Means over ``step`` steps with ``(width - 1) * step`` of them in front, so that each step has a window."""
        line = torch.cat([first[:, None].expand(-1, self.options.width * step - 1), x], 1)
        if step > 1:
            line = trailing_means(line, torch.ones_like(line, dtype=torch.bool), (step,))[0][:, step - 1 :]
        return line

    def _windows(self, line: torch.Tensor, step: int) -> torch.Tensor:
        """Overlapping windows [S, T, width], without a copy."""
        return line.unfold(1, (self.options.width - 1) * step + 1, 1)[:, :, ::step]

    def _bank(self, line: torch.Tensor, begin: torch.Tensor, last: torch.Tensor, step: int) -> torch.Tensor:
        """Evenly taken windows [S, size, width], those least like the others replaced by the most usual one."""
        size = self.options.size
        share = torch.linspace(0, 1, size, device=line.device)
        place = (begin[:, None] + share * (last - begin)[:, None]).round().long()
        offset = torch.arange(self.options.width, device=line.device) * step
        cells = place[:, :, None] + offset
        bank = line.gather(1, cells.flatten(1)).view(len(line), size, -1)
        apart = torch.cdist(bank, bank)
        near = apart.kthvalue(min(self.options.neighbours + 1, size), dim=2).values
        order = near.sort(dim=1, stable=True).indices
        keep = max(size - int(TRIM * size), 1)
        order = torch.cat([order[:, :keep], order[:, :1].expand(-1, size - keep)], 1)
        return bank.gather(1, order[:, :, None].expand(-1, -1, bank.shape[2]))

    def _parts(self, arrays: dict[str, torch.Tensor], x: torch.Tensor, first: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = {}
        for step in self.options.steps:
            windows = self._windows(self._line(x, first, step), step)
            bank = arrays[f"bank.{step}"].float()
            out = torch.empty_like(x)
            rows = max(1, CHUNK_BYTES // (4 * self.options.size * max(x.shape[1], 1)))
            for a in range(0, len(x), rows):
                out[a : a + rows] = self._distance(windows[a : a + rows], bank[a : a + rows])
            parts[_name(self.options.width, step)] = out
        return parts

    def _distance(self, windows: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
        """Mean square distance of windows [S, T, w] to their k-th nearest in the bank [S, B, w]; [S, T]."""
        square = windows.square().sum(2, keepdim=True) + bank.square().sum(2)[:, None]
        apart = torch.baddbmm(square, windows, bank.transpose(1, 2), alpha=-2.0).clamp_(min=0.0)
        count = min(self.options.neighbours, bank.shape[1])
        return apart.topk(count, dim=2, largest=False).values[:, :, -1] / self.options.width

    def _scores(self, arrays: dict[str, torch.Tensor], parts: dict[str, torch.Tensor], mask: torch.Tensor) -> Scores:
        score, terms = combine(parts, arrays["part_median"], arrays["part_gap"])
        expected = arrays["centre"][:, None].expand_as(score)
        half = self.options.band * arrays["unit"][:, None]
        return scores_of(mask & arrays["seen"][:, None], score, expected, half, terms)


def _name(width: int, step: int) -> str:
    return f"shape_{width * step}"
