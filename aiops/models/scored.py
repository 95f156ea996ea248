"""Answers of the scoring service, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch
from aiops.models.microbatch import Load


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer for one series; arrays are [T].

    ``served_by`` is ``stable``, ``candidate``, or empty where no version knows the series: then all is NaN.
    """

    series_id: str
    served_by: str
    reference: str
    score: NDArray[np.float32]
    expected: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    terms: Mapping[str, NDArray[np.float32]]
    threshold: float


@dataclass(frozen=True, slots=True)
class ServingState:
    """References by model that serve, the workers of both, and counts since the start.

    Attributes:
        fallbacks: requests of which the champion answered a part in the candidate's stead.
        shed: requests refused for want of room.
        late: requests that were not scored in time.
    """

    champions: Mapping[str, str]
    candidates: Mapping[str, str]
    stable: Load
    candidate: Load
    series_stable: int
    series_candidate: int
    fallbacks: int
    shed: int
    late: int


def unscored(batch: Batch, row: int) -> Scored:
    """The answer for a series that no version knows."""
    nothing = np.full(batch.values.shape[1], np.nan, np.float32)
    return Scored(batch.series_ids[row], "", "", nothing, nothing, nothing, nothing, {}, float("nan"))
