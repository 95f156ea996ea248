"""Principal components of windows (Shyu and others 2003), by scikit-learn.

A baseline for comparison, not for service.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from detectors.support.baseline import Baseline, Windows


class BaselinePca(Baseline):
    """Mean square of the whitened components, small ones included."""

    family = "baseline_pca"

    def judge(self, known: Windows, windows: Windows) -> NDArray[np.floating[Any]]:
        if float(np.ptp(known, axis=0).max()) == 0.0:
            apart: NDArray[np.floating[Any]] = np.square(windows - known[0]).mean(axis=1)
            return apart  # nothing varies, so every direction counts alike
        model = PCA(svd_solver="full").fit(known)
        least = max(float(model.explained_variance_.max()) * 0.01, 1e-3)
        scores: NDArray[np.floating[Any]] = (
            model.transform(windows) ** 2 / np.maximum(model.explained_variance_, least)
        ).mean(axis=1)
        return scores
