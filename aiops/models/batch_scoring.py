"""Scores of a time range: a job that reads the watched series, scores them block by block and keeps what it found.

By default the values whose score is above the series' threshold are kept, and of every series its counts; with
``values`` every value is. A block is so many series that its arrays stay small; the next is read by then.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, Scores
from aiops.core.errors import InvalidInput, NotFound
from aiops.core.model import ModelUse, UseKind
from aiops.core.ports import Clock, JobProgress, ModelMeter, system_clock
from aiops.models.detector_calls import Call, rows_of, run_together
from aiops.models.loaded import Loaded, LoadedModels
from aiops.store.telemetry.score_files import ScoreFile, as_csv

KIND = "score-batch"
FOLDER = "scores"
BLOCK_VALUES = 2_000_000
TOP = 50
"""Series told of in the summary: those with most values above their thresholds."""
_JOB_ID = re.compile(r"[0-9a-f]{32}")


class SeriesSource(Protocol):
    """Where the values of a model's series come from."""

    def __call__(self, model: Loaded, query: str, start_ms: int, end_ms: int) -> Batch:
        """The series at the steps of ``[start_ms, end_ms)``; ``query`` chooses one watched query or name, empty all.

        Raises ``InvalidInput`` for a query that the model was not trained on.
        """
        ...


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    series: str
    values: int
    above: int
    highest: float | None
    threshold: float | None


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What a batch found. ``unknown`` are series that the version was not trained on; ``top`` the worst."""

    model: str
    version: str
    start_ms: int
    end_ms: int
    series: int
    unknown: int
    values: int
    above: int
    rows: int
    seconds: float
    top: tuple[SeriesSummary, ...]


class ScoreBatches:
    """The handler of ``score-batch`` jobs and what they left. Thread-safe.

    Args:
        price: USD of seconds of one processor core.
    """

    def __init__(
        self,
        models: LoadedModels,
        source: SeriesSource,
        data_dir: Path,
        *,
        meter: ModelMeter | None = None,
        price: Callable[[float], float] = lambda _: 0.0,
        clock: Clock = system_clock,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._models = models
        self._source = source
        self._folder = data_dir / FOLDER
        self._meter = meter
        self._price = price
        self._clock = clock
        self._stopwatch = stopwatch

    def run(self, arguments: Mapping[str, str], progress: JobProgress) -> None:
        """Arguments: ``result`` (32 hexadecimal digits naming it), ``model``, ``start_ms``, ``end_ms``, ``by``;
        optional ``version``, ``query``, ``values``.

        Raises:
            NotFound: no such model or version.
            InvalidInput: an empty range, or a query that the model was not trained on.
        """
        name, by = arguments["model"], arguments.get("by", "")
        start_ms, end_ms = int(arguments["start_ms"]), int(arguments["end_ms"])
        if not start_ms < end_ms:
            raise InvalidInput("The range to score ends before it begins.")
        version = self._version(name, arguments.get("version", ""))
        if self._meter is not None:
            self._meter.check(name, UseKind.BATCH, by, 0.0)
        begin, busy = self._stopwatch(), time.process_time()
        progress(0.0, f"reading the series of {version.reference}")
        batch = self._source(version, arguments.get("query", ""), start_ms, end_ms)
        progress(0.2, f"scoring {len(batch)} series at {len(batch.timestamps)} steps")
        place = self._place(arguments["result"])
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = ScoreFile(place / "scores.parquet")
        try:
            found = score_all(version, batch, file, every=arguments.get("values") == "true", progress=progress)
            file.finish()
        finally:
            file.discard()
        seconds = self._stopwatch() - begin
        summary = BatchSummary(
            name, version.version.version, start_ms, end_ms, len(batch), found.unknown, found.values, found.above,
            found.rows, seconds, found.top,
        )  # fmt: skip
        (place / "summary.json").write_text(json.dumps(asdict(summary)))
        if self._meter is not None:
            cost = self._price(time.process_time() - busy)
            used = ModelUse(
                name, version.version.version, UseKind.BATCH, by, self._clock(), float(found.values), "values", cost
            )
            self._meter.record(used)
        progress(1.0, f"{found.above} of {found.values} values are above their thresholds")

    def _version(self, name: str, number: str) -> Loaded:
        registry = self._models.registry
        found = registry.version(name, number) if number else registry.get(name)
        if found is None:
            raise NotFound(f"There is no model '{name}' with a champion.")
        return self._models.get(found)

    def summary(self, result: str) -> BatchSummary:
        """Raises ``NotFound`` before the job is done."""
        try:
            found = json.loads((self._place(result) / "summary.json").read_text())
        except (OSError, ValueError) as error:
            raise NotFound("That batch has no result, or none yet.") from error
        top = tuple(SeriesSummary(**one) for one in found.pop("top"))
        return BatchSummary(**found, top=top)

    def parquet(self, result: str) -> bytes:
        """Raises ``NotFound``, also where no value was above its threshold."""
        try:
            return (self._place(result) / "scores.parquet").read_bytes()
        except OSError as error:
            raise NotFound("That batch has no scores to download.") from error

    def csv(self, result: str) -> bytes:
        """Raises as :meth:`parquet`."""
        return as_csv(self._place(result) / "scores.parquet")

    def _place(self, result: str) -> Path:
        if not _JOB_ID.fullmatch(result):
            raise NotFound(f"There is no batch '{result[:40]}'.")
        return self._folder / result


@dataclass(frozen=True, slots=True)
class _Found:
    unknown: int
    values: int
    above: int
    rows: int
    top: tuple[SeriesSummary, ...]


def blocks_of(batch: Batch, rows: Sequence[int]) -> Iterator[Batch]:
    """The rows in blocks of about ``BLOCK_VALUES``."""
    size = max(1, BLOCK_VALUES // max(batch.values.shape[1], 1))
    for start in range(0, len(rows), size):
        yield rows_of(batch, rows[start : start + size])


def score_all(
    loaded: Loaded, batch: Batch, file: ScoreFile, *, every: bool, progress: Callable[[float, str], None]
) -> _Found:
    """Score the batch into the file: the values above their thresholds, or ``every`` value."""
    known = [row for row, key in enumerate(batch.series_ids) if key in loaded.rows]
    values = above = rows = done = 0
    series: list[SeriesSummary] = []
    whole = [known] if loaded.detector.joint else None
    for block in [rows_of(batch, part) for part in whole] if whole else blocks_of(batch, known):
        scores = run_together([Call(loaded, block)])[0]
        limits = _limits(loaded, block)
        finite = np.isfinite(scores.score)
        high = finite & (np.where(finite, scores.score, 0.0) >= limits[:, None])
        kept = block.mask if every else high
        rows += _write(file, block, scores, limits, kept)
        counts, highs = (finite & block.mask).sum(axis=1), high.sum(axis=1)
        best = np.where(finite, scores.score, -np.inf).max(axis=1, initial=-np.inf)
        values, above, done = values + int(counts.sum()), above + int(highs.sum()), done + len(block)
        series += [
            SeriesSummary(key, int(n), int(h), _number(b), _number(limit))
            for key, n, h, b, limit in zip(block.series_ids, counts, highs, best, limits, strict=True)
        ]
        series = sorted(series, key=lambda s: (-s.above, -(s.highest or 0.0), s.series))[:TOP]
        progress(0.2 + 0.8 * done / max(len(known), 1), "")
    return _Found(len(batch) - len(known), values, above, rows, tuple(series))


def _limits(loaded: Loaded, block: Batch) -> NDArray[np.float64]:
    if loaded.thresholds is None:
        return np.full(len(block), np.inf)
    return loaded.thresholds[[loaded.rows[key] for key in block.series_ids]]


def _write(file: ScoreFile, block: Batch, scores: Scores, limits: NDArray[np.float64], kept: NDArray[np.bool_]) -> int:
    row, column = np.nonzero(kept)
    if not len(row):
        return 0
    arrays = {
        "value": block.values, "score": scores.score, "expected": scores.expected, "lower": scores.lower,
        "upper": scores.upper,
    }  # fmt: skip
    chosen = {name: np.ascontiguousarray(array[row, column], np.float32) for name, array in arrays.items()}
    limit = np.where(np.isfinite(limits), limits, np.nan).astype(np.float32)
    file.add([block.series_ids[r] for r in row.tolist()], block.timestamps[column], {**chosen, "threshold": limit[row]})
    return len(row)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
