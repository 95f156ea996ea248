"""Earlier stretches of a series that look like its episode, nearest first: has this happened before?

Windows are compared by their course, level included, in units of the episode window's own spread; every window of the
history is compared at once by sliding sums of products (MASS, Mueen et al. 2015).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def distances(history: Floats, window: Floats) -> Floats:
    """Root mean square difference between ``window`` [W] and each window of ``history`` [T], [T - W + 1].

    In units of the standard deviation of ``window``; NaN where a window holds a missing value.
    """
    size = len(window)
    if len(history) < size or not np.isfinite(window).all():
        return np.full(max(len(history) - size + 1, 0), np.nan)
    centre = window.mean()
    known = np.isfinite(history)
    x, y = np.where(known, history - centre, 0.0), window - centre
    length = 1 << int(np.ceil(np.log2(len(x) + size)))
    product = np.fft.irfft(np.fft.rfft(x, length) * np.fft.rfft(y[::-1], length), length)[size - 1 : len(x)]
    squares = np.concatenate([[0.0], np.cumsum(x**2)])
    missing = np.concatenate([[0], np.cumsum(~known)])
    total = squares[size:] - squares[:-size] + (y**2).sum() - 2 * product
    unit = max(float(window.std()), 1e-9 * max(abs(centre), 1e-9))
    found = np.sqrt(np.maximum(total, 0.0) / size) / unit
    return np.where(missing[size:] > missing[:-size], np.nan, found)


def nearest(history: Floats, window: Floats, count: int, limit: float) -> list[tuple[int, float]]:
    """Starts and distances of up to ``count`` windows nearer than ``limit`` that do not overlap, nearest first."""
    found = distances(history, window)
    out: list[tuple[int, float]] = []
    while len(out) < count and np.isfinite(found).any():
        place = int(np.nanargmin(found))
        if found[place] > limit:
            break
        out.append((place, float(found[place])))
        found[max(place - len(window) + 1, 0) : place + len(window)] = np.nan
    return out
