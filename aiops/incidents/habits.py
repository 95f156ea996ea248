"""What a series has always done: how long it has been silent, how long it has stood still. Kept with its model.

A silence or a flat line is judged against the longest one of the series' own training window, not against a constant:
an error ratio that is zero for days is no flat line, a sensor that never repeats a value twice is one within minutes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

PREFIX = "habit."


def habits(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> Mapping[str, NDArray[np.generic]]:
    """Arrays [S]: ``gap`` and ``flat``, the longest silence and the longest unchanged run in steps between the first
    and the last observation, and ``steps`` observed."""
    steps = mask.sum(1)
    return {
        PREFIX + "gap": _longest(~mask & _inside(mask)),
        PREFIX + "flat": _longest(mask & _same(values, mask)),
        PREFIX + "steps": steps.astype(np.int64),
    }


def _inside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    seen_before = np.logical_or.accumulate(mask, axis=1)
    seen_after = np.logical_or.accumulate(mask[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(seen_before & seen_after)


def _same(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True where the last observed value before is the same."""
    place = np.maximum.accumulate(np.where(mask, np.arange(mask.shape[1]), -1), axis=1)
    before = np.concatenate([np.full((len(mask), 1), -1), place[:, :-1]], axis=1)
    held = np.take_along_axis(values, np.maximum(before, 0), axis=1)
    return np.asarray((before >= 0) & (held == values))


def _longest(run: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Length of the longest run of true, by row."""
    count = np.cumsum(run, axis=1)
    start = np.maximum.accumulate(np.where(run, 0, count), axis=1)
    return np.asarray((count - start).max(1, initial=0), np.int64)
