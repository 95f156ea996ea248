"""The heavy part of a training, in pieces that any worker can do: fit some series, then join and calibrate all.

A piece is fitted to all of its window, and, to calibrate, to the window with one part hidden, for each part in turn.
The fits are closed forms, so there is nothing iterative to start from an earlier model. What a warm start saves is the
calibration: series that the champion knows keep its arrays that come from held-out scores, and of the parts only the
last is hidden, to check what the new fit says of data that it did not see.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, State
from aiops.core.ports import Detector
from aiops.models import artifacts
from aiops.models.encryption import ArtifactKey, unseal

FOLDS = 3
"""Parts of the window; each is scored by a fit to the others, to calibrate, before all of it is fitted to serve."""
CONTEXT_STEPS = 1024
"""Steps before a part that its scores may look back on."""
CHUNK_POINTS = 2_000_000
"""Points of a piece."""
HIGH_QUANTILE = 0.99
HIGH_SHARE_LIMIT = 0.25
"""A version stays challenger where more of the held-out scores exceed the fitted part's 99 % quantile."""
SCORES = "training.score"
"""Array of a piece that holds its scores, [S, T]."""


class Calibrate(Protocol):
    """What is kept of the training window beside the fit."""

    def __call__(self, batch: Batch, score: NDArray[np.float32] | None) -> Mapping[str, NDArray[np.generic]]:
        """Arrays [S, ...] from the window and its out-of-sample scores [S, T]; without scores, those that need none."""
        ...


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to ``end - 1`` of a window; ``warm`` ones are known to the champion."""

    detector: Detector[Any]
    start: int
    end: int
    warm: bool = False


@dataclass(frozen=True)
class Fitted:
    """A fitted piece as safetensors, with the GPU seconds that it took and the GPU's name."""

    data: bytes
    gpu_s: float = 0.0
    gpu: str = ""


@dataclass(frozen=True)
class Joining:
    """All pieces of a window.

    Attributes:
        pieces: files of theirs, sealed with ``key`` where there is one, or their bytes.
        warm: rows (first, end) whose calibration is in ``champion``.
    """

    pieces: tuple[Path | bytes, ...]
    calibrate: Calibrate
    warm: tuple[tuple[int, int], ...] = ()
    champion: State | None = None
    key: ArtifactKey | None = field(default=None, repr=False)


def parts_of(batch: Batch) -> list[tuple[int, int]]:
    """First row and end of the parts that are fitted in one go; a group that follows itself stays whole if it fits."""
    rows = max(1, CHUNK_POINTS // max(batch.values.shape[1], 1))
    parts, start = [], 0
    while start < len(batch):
        end = min(start + rows, len(batch))
        cut = end
        if end < len(batch) and batch.groups:
            while cut > start and batch.groups[cut - 1] == batch.groups[cut]:
                cut -= 1
        parts.append((start, cut if cut > start else end))
        start = parts[-1][1]
    return parts


def pieces_of(detector: Detector[Any], batch: Batch, champion: State | None = None) -> list[Piece]:
    """The window in pieces; those whose series the champion all knows are warm."""
    known = set(champion.series_ids) if champion else set()
    return [Piece(detector, a, b, known.issuperset(batch.series_ids[a:b])) for a, b in parts_of(batch)]


def fit_piece(batch: Batch, piece: Piece) -> Fitted:
    """The state of a piece and its scores, each by a fit that did not see it."""
    rows = batch.rows(piece.start, piece.end)
    began = time.perf_counter()
    score = late_scores(piece.detector, rows) if piece.warm else held_out_scores(piece.detector, rows)
    state = piece.detector.fit(rows)
    gpu = _gpu(piece.detector)
    data = artifacts.dumps(State(state.series_ids, state.step_ms, {**state.arrays, SCORES: score}, state.shared))
    return Fitted(data, time.perf_counter() - began if gpu else 0.0, gpu)


def join_pieces(batch: Batch, joining: Joining) -> tuple[bytes, dict[str, float]]:
    """The state of all series, calibrated, as safetensors; and what the output checks say."""
    parts = [artifacts.loads(_bytes(one, joining.key)) for one in joining.pieces]
    score = np.concatenate([np.asarray(part.arrays[SCORES], np.float32) for part in parts])
    fitted = _join(parts)
    warm = np.zeros(len(batch), bool)
    for first, end in joining.warm:
        warm[first:end] = True
    arrays: dict[str, NDArray[np.generic]] = {k: v for k, v in fitted.arrays.items() if k != SCORES}
    cold, own = np.flatnonzero(~warm), np.flatnonzero(warm)
    added = [(cold, joining.calibrate(_picked(batch, cold), score[cold]))] if len(cold) else []
    if len(own):
        assert joining.champion is not None
        kept = joining.champion.select([fitted.series_ids[row] for row in own])
        calibration = {k: v for k, v in kept.arrays.items() if k not in arrays}
        added.append((own, {**calibration, **joining.calibrate(_picked(batch, own), None)}))
    for name in added[0][1]:
        arrays[name] = _scattered(len(batch), [(rows, values[name]) for rows, values in added])
    state = State(fitted.series_ids, fitted.step_ms, arrays, fitted.shared)
    return artifacts.dumps(state), output_checks(score, batch.mask, batch.values.shape[1] * (FOLDS - 1) // FOLDS)


def held_out_scores(detector: Detector[Any], batch: Batch) -> NDArray[np.float32]:
    """Scores [S, T], each by a fit that did not see it: a part of the window is hidden, the rest fitted.

    A fit to the window's beginning alone would not do: it lacks the rhythms that only the whole window shows, and
    with them the errors that they bring.
    """
    parts = []
    for start, end in itertools.pairwise(_edges(batch)):
        state = detector.fit(_without(batch, start, end))
        first = max(start - CONTEXT_STEPS, 0)
        parts.append(detector.score(state, batch.steps(first, end)).score[:, start - first :])
    return np.concatenate(parts, axis=1)


def late_scores(detector: Detector[Any], batch: Batch) -> NDArray[np.float32]:
    """Scores [S, T] by one fit that did not see the last part of the window."""
    start, end = _edges(batch)[-2:]
    score: NDArray[np.float32] = detector.score(detector.fit(_without(batch, start, end)), batch).score
    return score


def output_checks(score: NDArray[np.float32], mask: NDArray[np.bool_], cut: int) -> dict[str, float]:
    """Share of observed points without a finite score, and of held-out scores above the fitted part's 99 %."""
    finite = np.isfinite(score)
    missing = float((mask & ~finite).sum() / max(mask.sum(), 1))
    early = np.sort(np.where(finite[:, :cut], score[:, :cut], np.inf), axis=1)
    count = finite[:, :cut].sum(1)
    if not early.size:
        return {"unscored_share": missing, "high_share": 0.0}
    place = np.floor(HIGH_QUANTILE * np.maximum(count - 1, 0)).astype(np.int64)
    level = np.take_along_axis(early, place[:, None], 1)
    late = finite[:, cut:] & (count > 0)[:, None]
    high = late & (np.where(finite[:, cut:], score[:, cut:], 0.0) > level)
    return {"unscored_share": missing, "high_share": float(high.sum() / max(late.sum(), 1))}


def refusal(checks: Mapping[str, float]) -> str:
    """Why a version with these checks must not be promoted by itself; empty where it may."""
    if checks["unscored_share"] > 0.001:
        return f"{checks['unscored_share']:.1%} of the observed points got no score"
    if checks["high_share"] > HIGH_SHARE_LIMIT:
        return f"{checks['high_share']:.0%} of the held-out scores are above the fitted part's 99 % quantile"
    return ""


def _edges(batch: Batch) -> list[int]:
    steps = batch.values.shape[1]
    return [steps * k // FOLDS for k in range(FOLDS + 1)]


def _without(batch: Batch, start: int, end: int) -> Batch:
    hidden = batch.mask.copy()
    hidden[:, start:end] = False
    return dataclasses.replace(batch, mask=hidden)


def _picked(batch: Batch, rows: NDArray[np.int64]) -> Batch:
    if len(rows) == len(batch):
        return batch
    ids = tuple(batch.series_ids[row] for row in rows)
    groups = tuple(batch.groups[row] for row in rows) if batch.groups else ()
    return Batch(batch.values[rows], batch.mask[rows], batch.timestamps, batch.step_ms, ids, groups)


def _scattered(count: int, parts: Sequence[tuple[NDArray[np.int64], NDArray[np.generic]]]) -> NDArray[np.generic]:
    out = np.empty((count, *parts[0][1].shape[1:]), parts[0][1].dtype)
    for rows, values in parts:
        out[rows] = values
    return out


def _join(states: Sequence[State]) -> State:
    first = states[0]
    ids = tuple(i for state in states for i in state.series_ids)
    arrays = {k: np.concatenate([state.arrays[k] for state in states]) for k in first.arrays}
    return State(ids, first.step_ms, arrays, first.shared)


def _bytes(piece: Path | bytes, key: ArtifactKey | None) -> bytes:
    return piece if isinstance(piece, bytes) else unseal(piece.read_bytes(), piece.name, key)


def _gpu(detector: Detector[Any]) -> str:
    """The name of the GPU that the detector fits on; empty where that is the CPU."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(detector.options, "device", "cpu") == "cpu" or not torch.cuda.is_available():
        return ""
    return str(torch.cuda.get_device_name())
