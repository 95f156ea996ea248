"""Other projects' detectors behind the board's signature: (values, timestamps, train_len) -> scores.

Each as its project recommends for one series: windows of one rhythm, scores at the window's middle where it looks at
whole ranges. They come from the extra ``bench``; TSB-AD itself does not install beside our pins (pip:
ResolutionImpossible), so its Sub-PCA is rebuilt here as its source has it: pyod's PCA over z-scored windows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scorer = Callable[[Floats, Floats, int], Floats]
MAX_LAG = 300


def rhythm(values: Floats, default: int = 125) -> int:
    """Window length: the best local maximum of the autocorrelation, as TSB-AD has it."""
    centred = values[:20_000] - values[:20_000].mean()
    size = 1 << int(2 * len(centred) - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    ac = np.fft.irfft(np.abs(spectrum) ** 2, size)[3 : min(401, len(centred))]
    peaks = np.where((ac[1:-1] > ac[:-2]) & (ac[1:-1] > ac[2:]))[0] + 1 if len(ac) > 2 else []
    best = int(peaks[np.argmax(ac[peaks])]) + 3 if len(peaks) else 0
    return best if 6 <= best <= MAX_LAG else min(default, max(len(values) // 4, 4))


def centred(scores: Floats, size: int) -> Floats:
    """Window scores to one a point, at the window's middle."""
    before = (size - len(scores)) // 2
    return np.pad(scores, (before, size - len(scores) - before), mode="edge")


def windows_of(values: Floats) -> Floats:
    windows = np.lib.stride_tricks.sliding_window_view(values, rhythm(values)).astype(float)
    return (windows - windows.mean(1, keepdims=True)) / np.maximum(windows.std(1, keepdims=True), 1e-6)


def sub_pca(values: Floats, _times: Floats, _train: int) -> Floats:
    from pyod.models.pca import PCA

    windows = np.lib.stride_tricks.sliding_window_view(values, rhythm(values)).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PCA(n_components=None, standardization=True).fit(windows)
    return centred(np.nan_to_num(model.decision_scores_, posinf=0.0), len(values))


def pyod_hbos(values: Floats, _times: Floats, _train: int) -> Floats:
    from pyod.models.hbos import HBOS

    windows = np.lib.stride_tricks.sliding_window_view(values, min(rhythm(values), 32)).astype(float)
    return centred(HBOS().fit(windows).decision_scores_, len(values))


def stumpy_profile(values: Floats, _times: Floats, _train: int) -> Floats:
    import stumpy

    profile = stumpy.stump(values.astype(float), max(rhythm(values), 4))
    return centred(np.nan_to_num(profile[:, 0].astype(float), posinf=0.0), len(values))


def river_half_space(values: Floats, _times: Floats, train: int) -> Floats:
    """Streaming: scores a point, then learns it; the point and the change to it, scaled by the prefix."""
    from river.anomaly import HalfSpaceTrees

    head = values[: max(train, 16)]
    low, high = float(head.min()), float(head.max())
    span = max(high - low, 1e-9)
    x = np.clip((values - low + span / 2) / (2 * span), 0, 1)
    change = np.clip(np.diff(x, prepend=x[0]) / 2 + 0.5, 0, 1)
    model = HalfSpaceTrees(n_trees=10, height=8, window_size=250, seed=0)
    scores = []
    for point in zip(x.tolist(), change.tolist(), strict=True):
        row = {"value": point[0], "change": point[1]}
        scores.append(model.score_one(row))
        model.learn_one(row)
    return np.array(scores)


def netdata_k_means(values: Floats, _times: Floats, _train: int) -> Floats:
    """As Netdata describes its own: vectors of six smoothed differences, two clusters, up to 18 models of trailing
    windows; a point is as anomalous as the model that it fits best says, in units of that model's 99 % distance."""
    smooth = np.convolve(np.diff(values, prepend=values[0]), np.ones(3) / 3, mode="full")[: len(values)]
    vectors = np.lib.stride_tricks.sliding_window_view(np.pad(smooth, (5, 0)), 6)
    block = max(len(values) // 40, 60)
    models: list[tuple[Floats, float]] = []
    scores = np.zeros(len(values))
    for start in range(0, len(values), block):
        part = vectors[start : start + block]
        if models:
            each = [np.sqrt(((part[:, None] - c) ** 2).sum(2)).min(1) / scale for c, scale in models]
            scores[start : start + block] = np.min(each, axis=0)
        learnt = vectors[max(start + block - 6 * block, 0) : start + block]
        centres = np.stack([learnt.min(0), learnt.max(0)])
        for _ in range(20):
            nearest = ((learnt[:, None] - centres) ** 2).sum(2).argmin(1)
            centres = np.stack([learnt[nearest == k].mean(0) if (nearest == k).any() else centres[k] for k in (0, 1)])
        distance = np.sqrt(((learnt[:, None] - centres) ** 2).sum(2)).min(1)
        models = [*models[-17:], (centres, max(float(np.quantile(distance, 0.99)), 1e-9))]
    return scores


PEERS: dict[str, Scorer] = {
    "Sub-PCA (pyod's PCA, as TSB-AD)": sub_pca,
    "pyod HBOS of windows": pyod_hbos,
    "stumpy matrix profile": stumpy_profile,
    "river half-space trees, streaming": river_half_space,
    "Netdata-style k-means, streaming": netdata_k_means,
}
