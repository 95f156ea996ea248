"""A service's metrics together: which combination is unusual, though each alone may not be.

Series of one group (``Batch.groups``, such as the service) are scored as a vector at every step: their seasonal
residuals are whitened by the group's own correlation (Ledoit-Wolf style shrinkage towards no correlation), and the
squared length is the joint statistic (Hotelling's T-square; of the residuals rather than the values, since daily
rhythms correlate everything). Each member is told its own part of the length, what it adds given the others, so that
the metric that deviates is the one that is named, not its whole service. A second part is its share of the mean of the
group's few largest residuals (top k), which sees one metric that is far off and a few that are a little. A series
without a group is one alone.
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.plugins import build
from aiops.core.ports import Detector, PluginContext, PluginOptions
from detectors.support.calibration import combine, scale_of
from detectors.support.device import Choice
from detectors.support.states import check, scores_of

CLIP = 10.0
"""A residual counts at most this many spreads, so that one metric cannot be the group."""


class GroupCovarianceOptions(PluginOptions):
    device: Choice = "auto"
    largest: int = Field(3, ge=1)
    """How many of a group's residuals the top-k part averages."""
    max_members: int = Field(64, ge=2)
    """Members of a group that are scored together; further ones are further groups."""
    shrink_steps: float = Field(50.0, gt=0)
    """Steps that a prior of no correlation counts for."""


class GroupCovariance(Detector[GroupCovarianceOptions]):
    """Joint residual of a group's series, with each one's share."""

    Options = GroupCovarianceOptions
    family = "group_covariance"
    calibrated = True
    joint = True

    def __init__(self, options: GroupCovarianceOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        inner = PluginContext(f"{context.name}.residual", context.clock)
        self._residual = cast(Detector[Any], build("detectors", "seasonal_residual", {"device": options.device}, inner))

    def fit(self, batch: Batch) -> State:
        inner = self._residual.fit(batch)
        z, mask = self._distances(inner, batch)
        rows, slot = self._layout(batch)
        square = self._grid(z, rows)
        seen = self._grid(mask.to(z.dtype), rows)
        both = torch.bmm(seen, seen.transpose(1, 2))
        covariance = torch.bmm(square, square.transpose(1, 2)) / both.clamp(min=1.0)
        weight = both / (both + self.options.shrink_steps)
        scale = covariance.diagonal(dim1=1, dim2=2).clamp(min=0.25)
        eye = torch.eye(covariance.shape[1])
        covariance = covariance * weight * (1 - eye) * 0.95 + torch.diag_embed(scale)
        # Weights that differ by pair may leave it indefinite: lift it by what is missing.
        least = torch.linalg.eigvalsh(covariance)[:, :1]
        lift = (0.05 * scale.amax(1, keepdim=True) - least).clamp(min=0.0)
        precision = torch.linalg.inv(covariance + torch.diag_embed(lift.expand_as(scale)))
        per_series = precision.reshape(-1, precision.shape[2])[slot]
        width = self.options.max_members
        padded = torch.nn.functional.pad(per_series, (0, width - per_series.shape[1]))
        arrays: dict[str, NDArray[np.generic]] = {
            **{f"residual:{k}": v for k, v in inner.arrays.items()},
            "precision": padded.half().numpy(),
            "group": _keys(batch, (slot // precision.shape[1]).numpy()),
            "place": (slot % precision.shape[1]).numpy(),
        }
        state = State(batch.series_ids, batch.step_ms, arrays)
        parts = self._parts(state, z, mask)
        median, gap = scale_of(parts, mask, self.spans)
        return State(
            batch.series_ids, batch.step_ms, {**arrays, "part_median": median.numpy(), "part_gap": gap.numpy()}
        )

    def score(self, state: State, batch: Batch) -> Scores:
        check(state, batch)
        return self._scores(state, batch, self._residual.score(self._inner(state), batch))

    def update(self, state: State, tick: Batch) -> tuple[State, Scores]:
        check(state, tick)
        inner, scores = self._residual.update(self._inner(state), tick)
        arrays = {**state.arrays, **{f"residual:{k}": v for k, v in inner.arrays.items()}}
        return State(state.series_ids, state.step_ms, arrays, state.shared), self._scores(state, tick, scores)

    def close(self) -> None:
        self._residual.close()

    def _inner(self, state: State) -> State:
        arrays = {k[9:]: v for k, v in state.arrays.items() if k.startswith("residual:")}
        return State(state.series_ids, state.step_ms, arrays, state.shared)

    def _distances(self, inner: State, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return _signed(self._residual.score(inner, batch), batch)

    def _scores(self, state: State, batch: Batch, single: Scores) -> Scores:
        z, mask = _signed(single, batch)
        parts = self._parts(state, z, mask)
        median, gap = (torch.from_numpy(np.array(state.arrays[k])) for k in ("part_median", "part_gap"))
        score, terms = combine(parts, median, gap)
        expected, lower = torch.from_numpy(single.expected), torch.from_numpy(single.lower)
        return scores_of(mask, score, expected, expected - lower, terms)

    def _parts(self, state: State, z: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """What each series adds to its group's joint statistic and to its top-k part, [S, T] each."""
        group = torch.from_numpy(np.array(state.arrays["group"], np.int64))
        place = torch.from_numpy(np.array(state.arrays["place"], np.int64))
        _, group = torch.unique(group, return_inverse=True)
        count, width = int(group.max()) + 1 if len(group) else 0, int(place.max()) + 1 if len(place) else 1
        precision = torch.from_numpy(np.array(state.arrays["precision"], np.float32))[:, :width]
        grid = z.new_zeros((count, width, z.shape[1]))
        seen = torch.zeros_like(grid)
        matrix = z.new_zeros((count, width, width))
        grid[group, place], seen[group, place], matrix[group, place] = z, mask.to(z.dtype), precision
        pulled = torch.bmm(matrix, grid)
        each = (grid * pulled).clamp(min=0.0)
        size = min(self.options.largest, width)
        largest = grid.abs().topk(size, dim=1).values.sum(1) / seen.sum(1).clamp(min=1.0, max=size)
        share = each / each.sum(1, keepdim=True).clamp(min=1e-6)
        return {"joint": each[group, place], "largest": largest[group] * share[group, place]}

    def _layout(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of each group [G, M], -1 where there is none, in the order of the ids; and each row's cell, [S]."""
        names = batch.groups or batch.series_ids
        order = sorted(range(len(batch)), key=lambda i: (names[i], batch.series_ids[i]))
        cells, sizes = np.zeros((len(batch), 2), np.int64), [0]
        for before, i in zip([-1, *order], order, strict=False):
            if before >= 0 and (names[before] != names[i] or sizes[-1] == self.options.max_members):
                sizes.append(0)
            cells[i] = len(sizes) - 1, sizes[-1]
            sizes[-1] += 1
        rows = np.full((len(sizes), max(max(sizes), 1)), -1, np.int64)
        rows[cells[:, 0], cells[:, 1]] = np.arange(len(batch))
        return torch.from_numpy(rows), torch.from_numpy(cells[:, 0] * rows.shape[1] + cells[:, 1])

    def _grid(self, values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        grid = values[rows.clamp(min=0)] if len(values) else values.new_zeros((*rows.shape, values.shape[1]))
        return torch.where((rows >= 0)[:, :, None], grid, 0.0)


def _keys(batch: Batch, number: NDArray[np.int64]) -> NDArray[np.int64]:
    """A key a series that those fitted together share, and no others."""
    members: dict[int, list[str]] = {}
    for name, group in sorted(zip(batch.series_ids, number.tolist(), strict=True)):
        members.setdefault(group, []).append(name)
    digests = {
        group: int.from_bytes(hashlib.sha256("\n".join(ids).encode("utf-8", "surrogatepass")).digest()[:7])
        for group, ids in members.items()
    }
    return np.array([digests[group] for group in number.tolist()], np.int64)


def _signed(scores: Scores, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance from the expected value in spreads, signed, and where there is one, [S, T]."""
    mask = np.isfinite(scores.score)
    third = np.maximum((scores.upper - scores.expected) / 3.0, np.finfo(np.float32).tiny)
    z = np.where(mask, (batch.values - scores.expected) / third, 0.0).astype(np.float32)
    return torch.from_numpy(z).nan_to_num_(0.0).clamp_(-CLIP, CLIP), torch.from_numpy(mask)
