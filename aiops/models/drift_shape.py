"""Whether series that belong together still move together: the maximum mean discrepancy of their joint values.

A changed correlation leaves every single series as it was; only a test of their joint values sees it. The values are
means of blocks, whitened each by its own first autocorrelation, so that permuting them is fair (Gretton and others
2012; the kernel's width is the median distance).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_SERIES, MAX_BLOCKS, PERMUTATIONS = 16, 480, 999
CLIP = 5.0


def joint_p(early: Floats, late: Floats, seed: int = 0) -> float:
    """Chance of a discrepancy as large as that of two stretches of blocks.

    Args:
        early, late: [S, B] and [S, C], NaN where nothing is known; such blocks are left out. Of more than
            ``MAX_SERIES`` series some are taken, evenly, and of more than ``MAX_BLOCKS`` earlier blocks the latest.

    Returns:
        a p-value; 1 where there are fewer than two series, or too few blocks.
    """
    rows = np.unique(np.linspace(0, len(early) - 1, min(MAX_SERIES, len(early))).round().astype(np.int64))
    before, after = _white(early[rows][:, -MAX_BLOCKS:], late[rows])
    before, after = before[:, np.isfinite(before).all(0)].T, after[:, np.isfinite(after).all(0)].T
    if len(rows) < 2 or len(before) < 20 or len(after) < 10:
        return 1.0
    joined = np.concatenate([before, after])
    square = (joined**2).sum(1)
    apart = np.maximum(square[:, None] + square[None] - 2 * joined @ joined.T, 0.0)
    width = float(np.median(apart[np.triu_indices(len(apart), 1)]))
    kernel = np.exp(-apart / max(width, 1e-12))
    random = np.random.default_rng(seed)
    weights = np.concatenate([np.full(len(before), 1 / len(before)), np.full(len(after), -1 / len(after))])
    shuffled = np.stack([weights, *(random.permutation(weights) for _ in range(PERMUTATIONS))], 1)
    found = (shuffled * (kernel @ shuffled)).sum(0)
    return float((1 + (found[1:] >= found[0]).sum()) / (PERMUTATIONS + 1))


def _white(early: Floats, late: Floats) -> tuple[Floats, Floats]:
    """Both in spreads of the earlier, with what the block before says taken off."""
    known = np.isfinite(early)
    count = np.maximum(known.sum(1, keepdims=True), 1)
    mean = np.where(known, early, 0.0).sum(1, keepdims=True) / count
    x = early - mean
    pairs = np.isfinite(x[:, 1:]) & np.isfinite(x[:, :-1])
    product = np.where(pairs, x[:, 1:] * x[:, :-1], 0.0).sum(1, keepdims=True)
    power = np.where(pairs, x[:, :-1] ** 2, 0.0).sum(1, keepdims=True)
    kept = np.clip(product / np.maximum(power, 1e-300), 0.0, 0.99)
    out = [part[:, 1:] - kept * part[:, :-1] for part in (x, late - mean)]
    spread = np.sqrt(np.nanmean(np.where(np.isfinite(out[0]), out[0], 0.0) ** 2, 1, keepdims=True))
    return (
        np.clip(out[0] / np.maximum(spread, 1e-12), -CLIP, CLIP),
        np.clip(out[1] / np.maximum(spread, 1e-12), -CLIP, CLIP),
    )
