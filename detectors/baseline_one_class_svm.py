"""One-class support vector machine of windows (Schoelkopf and others 2001), by scikit-learn.

A baseline for comparison, not for service.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import OneClassSVM

from detectors.support.baseline import Baseline, Windows


class BaselineOneClassSvm(Baseline):
    """Distance beyond the boundary around the usual windows."""

    family = "baseline_one_class_svm"

    def judge(self, known: Windows, windows: Windows) -> NDArray[np.floating[Any]]:
        model = OneClassSVM(nu=0.1, gamma="scale").fit(known)
        scores: NDArray[np.floating[Any]] = -model.decision_function(windows)
        return scores
