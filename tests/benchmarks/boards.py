"""Adapters between the scoring boards and the product's public code; they decide nothing themselves."""

from __future__ import annotations


def detect_batch(values, timestamps, train_lens):  # type: ignore[no-untyped-def]
    """``detector_board.py --batch``: the default detectors, fused, over whole series of one data set."""
    import numpy as np

    from aiops.core.plugins import build
    from aiops.core.ports import PluginContext
    from detectors.support.evaluation import score_ranges

    detector = build("detectors", "fusion", {}, PluginContext("board"))
    times = [np.round(np.asarray(t) * 1000).astype(np.int64) for t in timestamps]
    return score_ranges(detector, [np.asarray(v, float) for v in values], times)
