"""Averages over finished or running score rows, float32 [S, T]; what is not finite counts as unobserved.

An episode lasts, and so does the evidence for it: a step's square score is averaged with the mean over one rhythm of
the series and with the fading memory of the largest lately.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

FADE_STEPS = 150
"""Steps in which the memory of a score fades to 1/e of its square."""
OWN, RHYTHM, MEMORY = 4.0, 2.0, 1.0
"""Weights of a finished step: its own square, the mean over one rhythm, the memory from both sides."""
OWN_NOW, MEMORY_NOW = 3.0, 1.0
"""Weights of a running step: its own square, and the memory of those before."""


def finished(square: Floats, mask: NDArray[np.bool_], width: NDArray[np.int64]) -> Floats:
    """Scores from squares when what came later is known; ``width`` [S] is the rhythm in steps."""
    memory = np.maximum(fading(square), fading(square[:, ::-1])[:, ::-1])
    mean = centred_mean(square, mask, width)
    whole = (OWN * square + RHYTHM * mean + MEMORY * memory) / (OWN + RHYTHM + MEMORY)
    out: Floats = np.where(mask, np.sqrt(whole), np.float32(np.nan)).astype(np.float32)
    return out


def running(score: Floats) -> Floats:
    """Scores with the memory of those before; never looks ahead."""
    mask = np.isfinite(score)
    square = np.where(mask, np.square(score), np.float32(0))
    whole = (OWN_NOW * square + MEMORY_NOW * fading(square)) / (OWN_NOW + MEMORY_NOW)
    out: Floats = np.where(mask, np.sqrt(whole), np.float32(np.nan)).astype(np.float32)
    return out


def fading(square: Floats) -> Floats:
    """The largest of the squares so far, each faded by its age: ``max over u <= t of square[u] exp((u - t) / FADE)``.

    In logarithms this is a running maximum along a slope, so no step waits for the one before.
    """
    slope = np.arange(square.shape[1]) / FADE_STEPS
    with np.errstate(divide="ignore"):
        height = np.log(square, dtype=np.float64) + slope
    memory: Floats = np.exp(np.maximum.accumulate(height, axis=1) - slope).astype(np.float32)
    return memory


def centred_mean(score: Floats, mask: NDArray[np.bool_], width: NDArray[np.int64]) -> Floats:
    """Mean of the observed scores in a window of ``width`` [S] steps around each."""
    place, wide = np.arange(score.shape[1])[None], np.maximum(width, 1)[:, None]
    low, high = np.maximum(place - wide // 2, 0), np.minimum(place + (wide + 1) // 2, score.shape[1])
    total = np.pad(np.cumsum(np.where(mask, score, 0.0), 1, dtype=np.float64), ((0, 0), (1, 0)))
    count = np.pad(np.cumsum(mask, 1), ((0, 0), (1, 0)))
    seen: NDArray[np.int64] = np.take_along_axis(count, high, 1) - np.take_along_axis(count, low, 1)
    mean = (np.take_along_axis(total, high, 1) - np.take_along_axis(total, low, 1)) / np.maximum(seen, 1)
    out: Floats = mean.astype(np.float32)
    return out
