"""Between tensors and the core's State and Scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from aiops.core.anomaly import Batch, Scores, State
from aiops.core.errors import ConfigError, InvalidInput
from detectors.support.device import to_array
from detectors.support.resident import there


def state_of(batch: Batch, arrays: Mapping[str, torch.Tensor]) -> State:
    return State(batch.series_ids, batch.step_ms, {k: to_array(v) for k, v in arrays.items()})


def pick(state: State, device: torch.device) -> dict[str, torch.Tensor]:
    return {k: there(v, device) for k, v in state.arrays.items()}


def check(state: State, batch: Batch) -> None:
    """Raises ``ConfigError`` for another step, ``InvalidInput`` for other series."""
    if state.step_ms != batch.step_ms:
        raise ConfigError(f"The model was trained at a step of {state.step_ms} ms and is used at {batch.step_ms} ms.")
    if state.series_ids != batch.series_ids:
        raise InvalidInput("The batch holds other series than the state, or another order.")


def roll(values: torch.Tensor, width: int) -> torch.Tensor:
    """The last ``width`` columns, with NaN in front where there are fewer."""
    tail = values[:, max(values.shape[1] - width, 0) :]
    return torch.nn.functional.pad(tail, (width - tail.shape[1], 0), value=float("nan"))


def scores_of(
    usable: torch.Tensor,
    score: torch.Tensor,
    expected: torch.Tensor,
    half: torch.Tensor,
    terms: Mapping[str, torch.Tensor],
) -> Scores:
    """Scores with NaN where nothing was observed. The expectation stands at every step."""
    nan = torch.full_like(score, torch.nan)

    def array(values: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return to_array(values).astype(np.float32, copy=False)

    return Scores(
        array(torch.where(usable, score, nan)),
        array(expected),
        array(expected - half),
        array(expected + half),
        {k: array(torch.where(usable, v, nan)) for k, v in terms.items()},
    )
