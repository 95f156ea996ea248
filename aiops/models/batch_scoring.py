"""Scores of a time range: a job that reads the watched series, scores them block by block and keeps what it found.

By default the values whose score is above the series' threshold are kept, and of every series its counts; with
``values`` every value is. A block is so many series that its arrays stay small; the next is read by then.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from aiops.core.anomaly import Batch, Scores
from aiops.core.errors import InvalidInput, NotFound
from aiops.core.model import ModelUse, UseKind
from aiops.core.ports import Clock, JobProgress, ModelMeter, system_clock
from aiops.jobs.compute import Compute, Held, InThread
from aiops.models.detector_calls import Call, rows_of, run_together
from aiops.models.loaded import Loaded, LoadedModels
from aiops.store.telemetry.score_files import ScoreFile, as_csv

KIND = "score-batch"
FOLDER = "scores"
BLOCK_VALUES = 2_000_000
REPORT_S = 1.0
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
        compute: where batches of at least ``least_values`` are scored; others in the job's own thread.
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
        compute: Compute | None = None,
        least_values: int = 0,
    ) -> None:
        self._models = models
        self._source = source
        self._folder = data_dir / FOLDER
        self._meter = meter
        self._price = price
        self._clock = clock
        self._stopwatch = stopwatch
        self._compute = compute
        self._least_values = least_values

    @property
    def source(self) -> SeriesSource:
        """Where the values of a model's series come from."""
        return self._source

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
        begin = self._stopwatch()
        progress(0.0, f"reading the series of {version.reference}")
        batch = self._source(version, arguments.get("query", ""), start_ms, end_ms)
        progress(0.2, f"scoring {len(batch)} series at {len(batch.timestamps)} steps")
        place = self._place(arguments["result"])
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = ScoreFile(place / "scores.parquet")
        try:
            every = arguments.get("values") == "true"
            compute = self._compute if batch.values.size >= self._least_values else None
            found = score_all(version, batch, file, every=every, progress=progress, compute=compute)
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
            cost = self._price(found.cpu_s)
            used = ModelUse(
                name, version.version.version, UseKind.BATCH, by, self._clock(), float(found.values), "values", cost
            )
            self._meter.record(used)
        progress(1.0, f"{found.above} of {found.values} values are above their thresholds")

    def close(self) -> None:
        """End idle workers."""
        if self._compute is not None:
            self._compute.close()

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
    cpu_s: float


class _Blocks(Sequence[Call]):
    """The calls of a batch, each made when it is asked for, with no more of the state than it needs."""

    def __init__(self, loaded: Loaded, batch: Batch, known: Sequence[int]) -> None:
        self._loaded = loaded
        self._batch = batch
        size = len(known) if loaded.detector.joint else max(1, BLOCK_VALUES // max(batch.values.shape[1], 1))
        self._parts = [known[start : start + size] for start in range(0, len(known), max(size, 1))]

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, number: int) -> Call: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Call]: ...

    def __getitem__(self, number: int | slice) -> Call | Sequence[Call]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        block = rows_of(self._batch, self._parts[number])
        state = self._loaded.state.select(block.series_ids)
        rows = {key: row for row, key in enumerate(block.series_ids)}
        return Call(replace(self._loaded, state=state, rows=rows, thresholds=None), block)


def score_block(_: object, call: Call) -> Scores:
    """The scores of a block without their terms; also done in another process."""
    return replace(run_together([call])[0], terms={})


def blocks_of(batch: Batch, rows: Sequence[int]) -> Iterator[Batch]:
    """The rows in blocks of about ``BLOCK_VALUES``."""
    size = max(1, BLOCK_VALUES // max(batch.values.shape[1], 1))
    for start in range(0, len(rows), size):
        yield rows_of(batch, rows[start : start + size])


def score_all(
    loaded: Loaded,
    batch: Batch,
    file: ScoreFile,
    *,
    every: bool,
    progress: Callable[[float, str], None],
    compute: Compute | None = None,
) -> _Found:
    """Score the batch into the file: the values above their thresholds, or ``every`` value."""
    known = [row for row, key in enumerate(batch.series_ids) if key in loaded.rows]
    values = above = rows = done = 0
    cpu_s, asked_s = 0.0, 0.0
    series: list[SeriesSummary] = []
    blocks = _Blocks(loaded, batch, known)

    def check() -> None:
        nonlocal asked_s
        if time.monotonic() - asked_s >= REPORT_S:
            asked_s = time.monotonic()
            progress(0.2 + 0.8 * done / max(len(known), 1), "")

    for one in (compute or InThread()).run(score_block, Held(None), blocks, check):
        block, scores = blocks[one.number].batch, one.value
        cpu_s += one.cpu_s
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
    return _Found(len(batch) - len(known), values, above, rows, tuple(series), cpu_s)


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
