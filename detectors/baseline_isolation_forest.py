"""Isolation forest of windows (Liu and others 2008), by scikit-learn.

A baseline for comparison, not for service.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from detectors.support.baseline import Baseline, Windows


class BaselineIsolationForest(Baseline):
    """How few random cuts set a window apart, 0 to 1, less one half."""

    family = "baseline_isolation_forest"

    def judge(self, known: Windows, windows: Windows) -> NDArray[np.floating[Any]]:
        model = IsolationForest(n_estimators=50, random_state=0).fit(known)
        scores: NDArray[np.floating[Any]] = -model.decision_function(windows)
        return scores
