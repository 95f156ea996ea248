"""Whether series have drifted from a reference, for thousands of series in one call.

Metrics are autocorrelated, and textbook tests of their raw values cry wolf. So every series is reduced to what its
daily or weekly season leaves, that to means of blocks, and the blocks count as as many independent ones as their
autocorrelation makes of them (Geyer 1992, initial positive sequence). On them stand the test of Kolmogorov and
Smirnov with that effective sample (Stephens 1970), held to a false discovery rate over all series (Benjamini and
Hochberg 1995), the population stability index as the size of the effect, and the cut of ADWIN (Bifet and Gavalda
2007), which says since when.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.models.drift_season import deseasoned

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BLOCK = 10
"""Steps of a block, where the window is long enough for ``LEAST_BLOCKS`` of them."""
LEAST_BLOCKS = 96
LEAST_EFFECTIVE = 4.0
"""With fewer independent blocks on either side nothing is said of a series."""
BINS = 10
FLAT, LEAST_MOVE, FLAT_PSI = 1e-9, 0.002, 10.0
"""A series is flat whose spread is less than this share of its size; the least move that matters on one, as a share
of it; and what stands for its stability index then."""
CHUNK_CELLS = 8_000_000
"""Values looked at at once."""
ADWIN_DELTA = 0.002
"""Its confidence, as its authors recommend it."""


@dataclass(frozen=True, slots=True)
class SeriesDrift:
    """What was found of each series, all [S].

    Attributes:
        tested: whether there was enough to say anything.
        p: of the test of Kolmogorov and Smirnov; 1 where untested.
        psi: population stability index.
        shift: difference of the means, in the reference's standard deviations.
        effective: independent blocks of the later window.
        changed: share of the later window that lies after ADWIN's cut, NaN where it does not cut.
    """

    tested: Flags
    p: Floats
    psi: Floats
    shift: Floats
    effective: Floats
    changed: Floats

    def drifted(self, level: float, least_psi: float) -> Flags:
        """Series whose drift is significant at a false discovery rate of ``level``, and large enough to matter."""
        return discoveries(self.p, self.tested, level) & (self.psi >= least_psi)


def series_drift(
    reference: NDArray[np.float32],
    now: NDArray[np.float32],
    reference_ms: NDArray[np.int64],
    now_ms: NDArray[np.int64],
    step_ms: int,
    *,
    upwards: bool = False,
    seasons: bool = True,
) -> SeriesDrift:
    """Compare two stretches of the same series.

    Args:
        reference, now: [S, T] and [S, U], NaN where nothing was observed.
        reference_ms, now_ms: their times.
        upwards: only a move to larger values counts.
        seasons: take a daily or weekly season off first.
    """
    size = max(1, CHUNK_CELLS // max(reference.shape[1] + now.shape[1], 1))
    parts = [
        _chunk(reference[a : a + size], now[a : a + size], reference_ms, now_ms, step_ms, upwards, seasons)
        for a in range(0, len(reference), size)
    ]
    if not parts:
        none: Floats = np.empty(0)
        return SeriesDrift(np.empty(0, bool), none, none, none, none, none)
    names = SeriesDrift.__slots__
    return SeriesDrift(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _chunk(
    reference: NDArray[np.float32],
    now: NDArray[np.float32],
    reference_ms: NDArray[np.int64],
    now_ms: NDArray[np.int64],
    step_ms: int,
    upwards: bool,
    seasons: bool,
) -> SeriesDrift:
    before, after = reference.astype(np.float64), now.astype(np.float64)
    if seasons:
        before, after = deseasoned(before, after, reference_ms, now_ms, step_ms)
    centre = _mean(before)[:, None]
    spread = np.sqrt(_mean((before - centre) ** 2))[:, None]
    # A flat series has no deciles: it has drifted where it moves by more than a little of its size.
    scale = np.where(spread > FLAT * np.abs(centre), spread, np.maximum(np.abs(centre), 1e-12))
    before, after = (before - centre) / scale, (after - centre) / scale
    width = max(1, min(BLOCK, after.shape[1] // LEAST_BLOCKS))
    early, late = block_means(before, width), block_means(after, width)
    correlation = np.maximum(times_correlated(early), 1.0)
    sizes = np.isfinite(early).sum(1) / correlation, np.isfinite(late).sum(1) / correlation
    tested = np.asarray((sizes[0] >= LEAST_EFFECTIVE) & (sizes[1] >= LEAST_EFFECTIVE))
    p = np.where(tested, ks_p(early, late, *sizes, upwards=upwards), 1.0)
    thin = max(1, before.shape[1] // 2000)
    effect, shift = psi(before[:, ::thin], after[:, :: max(1, after.shape[1] // 2000)]), _mean(after)
    flat = spread[:, 0] <= FLAT * np.abs(centre[:, 0])
    effect = np.where(flat & (np.abs(shift) > LEAST_MOVE), FLAT_PSI, effect)
    if upwards:
        effect = np.where(shift > 0, effect, 0.0)
    cut = adwin_cut(early, late, correlation)
    return SeriesDrift(tested, p, np.where(tested, effect, 0.0), shift, sizes[1], np.where(tested, cut, np.nan))


def _mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(1) / np.maximum(known.sum(1), 1))


def block_means(values: Floats, width: int) -> Floats:
    """Means of blocks of ``width`` steps, [S, T // width]; NaN where less than half of a block was observed."""
    count = values.shape[1] // width
    folded = values[:, values.shape[1] - count * width :].reshape(len(values), count, width)
    known = np.isfinite(folded)
    seen = known.sum(2)
    mean = np.where(known, folded, 0.0).sum(2) / np.maximum(seen, 1)
    return np.asarray(np.where(2 * seen >= width, mean, np.nan))


def times_correlated(blocks: Floats) -> Floats:
    """How many blocks count as one, [S]: the integrated autocorrelation time by Geyer's initial positive sequence."""
    size = blocks.shape[1]
    if size < 4:
        return np.ones(len(blocks))
    known = np.isfinite(blocks)
    x = np.where(known, blocks - _mean(blocks)[:, None], 0.0)
    length = 1 << (2 * size - 1).bit_length()
    power = np.abs(np.fft.rfft(x, length)) ** 2
    pairs = np.abs(np.fft.rfft(known.astype(np.float64), length)) ** 2
    lags = max(size // 3, 2) // 2 * 2
    covariance = np.fft.irfft(power, length)[:, :lags] / np.maximum(np.fft.irfft(pairs, length)[:, :lags], 1.0)
    correlation = covariance / np.maximum(covariance[:, :1], 1e-300)
    sums = correlation[:, ::2] + correlation[:, 1::2]
    going = np.logical_and.accumulate(sums > 0, axis=1)
    return np.asarray(2 * np.where(going, np.minimum.accumulate(sums, 1), 0.0).sum(1) - 1)


def ks_p(early: Floats, late: Floats, n_early: Floats, n_late: Floats, *, upwards: bool = False) -> Floats:
    """P-values [S] of the largest distance between the distributions of two rows, NaN left out, with effective
    sample sizes; with ``upwards`` only of the distance by which the later values are larger."""
    joined = np.concatenate([early, late], 1)
    joined = np.where(np.isfinite(joined), joined, np.inf)
    mine = np.isfinite(early).sum(1)[:, None]
    theirs = np.isfinite(late).sum(1)[:, None]
    weight = np.concatenate(
        [
            np.where(np.isfinite(early), 1 / np.maximum(mine, 1), 0.0),
            np.where(np.isfinite(late), -1 / np.maximum(theirs, 1), 0.0),
        ],
        1,
    )
    order = joined.argsort(1, kind="stable")
    ordered = np.take_along_axis(joined, order, 1)
    gap = np.take_along_axis(weight, order, 1).cumsum(1)
    last = np.ones_like(ordered, bool)
    last[:, :-1] = ordered[:, :-1] < ordered[:, 1:]
    gap = np.where(last, gap, 0.0)
    distance = gap.max(1) if upwards else np.abs(gap).max(1)
    root = np.sqrt(n_early * n_late / np.maximum(n_early + n_late, 1e-12))
    scaled = (root + 0.12 + 0.11 / np.maximum(root, 1e-12)) * distance
    if upwards:
        return np.asarray(np.exp(-2 * np.minimum(scaled, 20) ** 2))
    return _kolmogorov(scaled)


def _kolmogorov(value: Floats) -> Floats:
    """Upper tail of Kolmogorov's distribution."""
    place = np.arange(1, 101)[:, None]
    x = np.minimum(np.maximum(value, 1e-3), 20.0)
    terms = 2 * (-1.0) ** (place - 1) * np.exp(-2 * (place * x) ** 2)
    return np.asarray(np.where(value < 0.2, 1.0, np.clip(terms.sum(0), 0.0, 1.0)))


def psi(early: Floats, late: Floats) -> Floats:
    """Population stability index [S] over the deciles of the earlier values, half a count added to each share, less
    what chance gives with independent values; at least 0."""
    counts = np.isfinite(early).sum(1)
    ordered = np.sort(np.where(np.isfinite(early), early, np.inf), axis=1)
    place = (np.arange(1, BINS)[None] * counts[:, None]) // BINS
    edges = np.take_along_axis(ordered, np.minimum(place, max(early.shape[1] - 1, 0)), 1)
    shares = []
    for values in (early, late):
        known = np.isfinite(values)
        above = np.stack([((values >= edge[:, None]) & known).sum(1) for edge in edges.T], 1)
        total = known.sum(1, keepdims=True)
        inside = np.diff(np.concatenate([total, above, np.zeros_like(total)], 1)[:, ::-1], axis=1)
        shares.append((inside + 0.5) / (total + 0.5 * BINS))
    expected, found = shares
    chance = (BINS - 1) * sum(1 / np.maximum(np.isfinite(values).sum(1), 1) for values in (early, late))
    return np.asarray(np.maximum(((found - expected) * np.log(found / expected)).sum(1) - chance, 0.0))


def adwin_cut(early: Floats, late: Floats, correlation: Floats) -> Floats:
    """Where ADWIN would drop the past: the share of ``late`` after the clearest cut inside it, [S]; NaN without one.

    Its bound with variance, on values scaled to [0, 1] by their reach, with the effective number of blocks.
    """
    joined = np.concatenate([early, late], 1)
    known = np.isfinite(joined)
    low = np.where(known, joined, np.inf).min(1, initial=np.inf)
    high = np.where(known, joined, -np.inf).max(1, initial=-np.inf)
    reach = np.where(high > low, high - low, 1.0)
    x = np.where(known, (joined - np.where(np.isfinite(low), low, 0.0)[:, None]) / reach[:, None], 0.0)
    start, size = early.shape[1], joined.shape[1]
    total, count = x.cumsum(1), known.cumsum(1)
    cuts = np.arange(max(start - 1, 0), size - 1)
    n0, n1 = count[:, cuts], count[:, -1:] - count[:, cuts]
    mean0 = total[:, cuts] / np.maximum(n0, 1)
    mean1 = (total[:, -1:] - total[:, cuts]) / np.maximum(n1, 1)
    whole = np.maximum(count[:, -1], 1)
    variance = (np.where(known, x**2, 0.0).sum(1) / whole - (total[:, -1] / whole) ** 2).clip(0)[:, None]
    harmonic = 1 / (1 / np.maximum(n0, 1) + 1 / np.maximum(n1, 1)) / correlation[:, None]
    confidence = math.log(2 / ADWIN_DELTA) + np.log(np.maximum(np.log(whole), 1.0))[:, None]
    bound = np.sqrt(2 / harmonic * variance * confidence) + 2 / (3 * harmonic) * confidence
    excess = np.where((n0 > 0) & (n1 > 0), np.abs(mean0 - mean1) / bound, 0.0)
    if not excess.shape[1]:
        return np.full(len(early), np.nan)
    best = excess.argmax(1)
    after = (size - 1 - cuts[best]) / max(late.shape[1], 1)
    return np.asarray(np.where(excess.max(1) > 1, after, np.nan))


def discoveries(p: Floats, tested: Flags, level: float) -> Flags:
    """Benjamini and Hochberg: what may be called found while at most ``level`` of it is expected to be false."""
    out = np.zeros(len(p), bool)
    rows = np.flatnonzero(tested)
    if len(rows):
        order = rows[np.argsort(p[rows], kind="stable")]
        passing = np.flatnonzero(p[order] <= level * np.arange(1, len(order) + 1) / len(order))
        if len(passing):
            out[order[: passing[-1] + 1]] = True
    return out
