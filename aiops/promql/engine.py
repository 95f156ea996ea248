"""The engine: PromQL over a :class:`MetricReader`, as Prometheus 3.x answers it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.ports import Clock, MetricQuerier, MetricReader, StreamedReader, system_clock
from aiops.core.principal import Principal
from aiops.core.series import Labels, Matcher, MetricMetadata, QueryResult, ResultType, SampleBlock
from aiops.promql import native_vectors
from aiops.promql.context import Grid, Kernels, Notes, Source
from aiops.promql.evaluate import Evaluator
from aiops.promql.frame import Frame, Scalars, Value, Windows
from aiops.promql.native import HistogramReader, refuse
from aiops.promql.parse import TOO_DEEP, parse
from aiops.promql.plan import Kind, Plan, Selector, walk
from aiops.promql.results import Kept, KeptResults, joined, reach_ms
from aiops.promql.windows import bounds
from aiops.settings import PromqlSettings

log = logging.getLogger(__name__)


class PromqlEngine(MetricQuerier):
    """Evaluates PromQL over a reader. Thread-safe.

    Args:
        reader: where samples come from; it enforces the principal's label scope.
        settings: lookback, limits and the flag for experimental functions.
        clock: unused by queries (their times are given); kept for callers that ask "now".
    """

    def __init__(
        self, reader: MetricReader, settings: PromqlSettings | None = None, clock: Clock = system_clock
    ) -> None:
        self.reader = reader
        self.settings = settings or PromqlSettings()
        self.clock = clock
        self._kernels: Kernels | None = None
        self._warming: threading.Thread | None = None
        self._histograms = False
        self._kept = KeptResults(self.settings.result_cache_bytes) if self.settings.result_cache_bytes else None

    @property
    def warm_now(self) -> bool:
        """Whether the compiled kernels are in use."""
        return self._kernels is not None

    def warm(self, *, wait: bool = False) -> None:
        """Compile (or load from disk) the kernels in a background thread; until then NumPy answers."""
        if self._warming is None:
            self._warming = threading.Thread(target=self._load_kernels, name="promql-kernels", daemon=True)
            self._warming.start()
        if wait:
            self._warming.join()

    def _load_kernels(self) -> None:
        try:
            from aiops.promql import kernels

            started = time.monotonic()
            if isinstance(self.reader, StreamedReader):
                self.reader.prepare()
            self._kernels = kernels.load()
            log.info("PromQL kernels are ready after %.1f s.", time.monotonic() - started)
        except Exception:
            log.exception("The PromQL kernels cannot be compiled; queries stay on NumPy.")

    def limited(
        self, *, lookback_ms: int = 0, timeout_s: float = 0.0, afresh: bool = False, histograms: bool = False
    ) -> PromqlEngine:
        """The same engine with another lookback and a shorter time-out; 0 keeps what is set.

        ``afresh`` evaluates every step, whatever earlier answers hold; ``histograms`` lets an answer have native ones.
        """
        chosen = self.settings
        if lookback_ms:
            chosen = chosen.model_copy(update={"lookback_s": lookback_ms / 1000})
        if 0 < timeout_s < chosen.timeout_s:
            chosen = chosen.model_copy(update={"timeout_s": timeout_s})
        other = copy(self)
        other.settings = chosen
        other._histograms = histograms
        if afresh:
            other._kept = None
        return other

    # -------------------------------------------------------------- queries

    def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult:
        plan = parse(query, experimental=self.settings.experimental_functions, step_ms=0, range_ms=0)
        grid = Grid(np.array([time_ms], np.int64), time_ms, time_ms, 0)
        evaluator = self._evaluator(query, plan, grid, principal)
        if plan.kind is Kind.MATRIX:
            return _result(ResultType.MATRIX, _raw(evaluator.windows(plan, grid)), evaluator)
        value = self._value(evaluator, plan, grid)
        if isinstance(value, str):
            block = SampleBlock.at(time_ms, [((), float("nan"))])
            return QueryResult(ResultType.STRING, block, text=value)
        if isinstance(value, Scalars):
            return _result(ResultType.SCALAR, SampleBlock.at(time_ms, [((), float(value.values[0]))]), evaluator)
        frame = value.finished()
        block = SampleBlock(
            tuple(frame.labels),
            np.arange(len(frame) + 1, dtype=np.int64),
            np.full(len(frame), time_ms, np.int64),
            frame.values[:, 0].copy(),
        )
        result = _result(ResultType.VECTOR, block, evaluator, ordered=frame.ordered)
        return self._with_histograms(result, evaluator, plan, grid)

    def range(self, query: str, start_ms: int, end_ms: int, step_ms: int, principal: Principal) -> QueryResult:
        if step_ms <= 0:
            raise QueryError("zero or negative query resolution step widths are not accepted. Try a positive integer")
        if end_ms < start_ms:
            raise QueryError("end timestamp must not be before start time")
        if (end_ms - start_ms) // step_ms > self.settings.max_points:
            raise QueryError(
                f"exceeded maximum resolution of {self.settings.max_points:,} points per timeseries. "
                "Try decreasing the query resolution (?step=XX)"
            )
        # Only a query that may say range() is parsed anew for each.
        span = end_ms - start_ms if "range" in query else None
        plan = parse(query, experimental=self.settings.experimental_functions, step_ms=step_ms, range_ms=span)
        if plan.kind not in (Kind.SCALAR, Kind.VECTOR):
            word = {Kind.MATRIX: "range vector", Kind.STRING: "string"}[plan.kind]
            raise QueryError(f'invalid expression type "{word}" for range query, must be Scalar or instant Vector')
        grid = Grid.between(start_ms, end_ms, step_ms)
        frame, evaluators = self._steps(query, plan, grid, principal)
        order = sorted(range(len(frame)), key=frame.labels.__getitem__)
        frame = frame.take(np.array(order, np.int64))
        counts = frame.ok.sum(axis=1)
        block = SampleBlock(
            tuple(frame.labels),
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)[np.nonzero(frame.ok)[1]],
            frame.values[frame.ok],
        )
        result = _result(ResultType.MATRIX, block, *evaluators)
        return self._with_histograms(result, evaluators[0], plan, grid) if len(evaluators) == 1 else result

    def _with_histograms(self, result: QueryResult, evaluator: Evaluator, plan: Plan, grid: Grid) -> QueryResult:
        if not self._histograms:
            return result
        found = native_vectors.vector(evaluator, plan, grid).series(grid.times)
        if not found:
            return result
        notes = evaluator.notes
        return replace(result, histograms=found, warnings=tuple(notes.warnings), infos=tuple(notes.infos))

    def _steps(self, query: str, plan: Plan, grid: Grid, principal: Principal) -> tuple[Frame, list[Evaluator]]:
        """A finished frame over all steps; those that an earlier answer holds are not evaluated again."""
        keeps = self._kept is not None and isinstance(self.reader, StreamedReader) and not self._reads_native(plan)
        reach = reach_ms(plan) if keeps else None
        if self._kept is None or not isinstance(self.reader, StreamedReader) or reach is None:
            frame, evaluator = self._evaluated(query, plan, grid, principal)
            return frame, [evaluator]
        chosen = self.settings.lookback_s, self.settings.experimental_functions
        key = (query, plan, principal.scope, chosen, grid.step_ms, grid.start_ms % grid.step_ms)
        version = self.reader.version()
        kept = self._kept.get(key)
        if kept is not None:
            unchanged = self.reader.changed_since(kept.version) - reach - 1
            kept = kept.between(grid.start_ms, min(grid.end_ms, unchanged))
        frames, evaluators = [], []
        for part in grid.around(kept.times if kept is not None else None):
            if part is None:
                assert kept is not None
                frames.append(kept.frame)
            else:
                frame, evaluator = self._evaluated(query, plan, part, principal)
                frames.append(frame)
                evaluators.append(evaluator)
        frame = joined(frames) if len(frames) > 1 else frames[0]
        if evaluators and not any(e.notes.warnings or e.notes.infos for e in evaluators):
            self._kept.put(key, Kept(frame, grid.times, version))
        return frame, evaluators

    def _evaluated(self, query: str, plan: Plan, grid: Grid, principal: Principal) -> tuple[Frame, Evaluator]:
        evaluator = self._evaluator(query, plan, grid, principal)
        value = self._value(evaluator, plan, grid)
        assert not isinstance(value, str)
        return value.finished() if isinstance(value, Frame) else Frame.single((), value.values), evaluator

    def _evaluator(self, query: str, plan: Plan, grid: Grid, principal: Principal) -> Evaluator:
        notes = Notes(query)
        source = Source(self.reader, principal, round(self.settings.lookback_s * 1000), self.settings.max_samples)
        evaluator = Evaluator(source, notes, time.monotonic() + self.settings.timeout_s, self._kernels)
        try:
            evaluator.plan_scans(plan, grid)
        except RecursionError:
            raise QueryError(TOO_DEEP) from None
        if isinstance(self.reader, HistogramReader):
            read = {id(one) for one in self._readable(plan)}
            nodes = [x for x in walk(plan) if isinstance(x, Selector) and x.matchers in source.hulls]
            nodes = [x for x in nodes if id(x) not in read]
            asked = [(x.matchers, source.hulls[x.matchers], x.start) for x in nodes]
            refuse(self.reader, query, asked, principal, notes)
        return evaluator

    def _reads_native(self, plan: Plan) -> bool:
        """Whether native histograms take part, of whose coming no version tells."""
        reader = self.reader
        return isinstance(reader, HistogramReader) and any(
            reader.may_hold_histograms(one.matchers) for one in self._readable(plan)
        )

    def _readable(self, plan: Plan) -> list[Selector]:
        """Selectors whose native histograms are read where they stand."""
        found = [one for node in walk(plan) for one in native_vectors.readable(node)]
        return found + native_vectors.selectors_within(plan) if self._histograms else found

    @staticmethod
    def _value(evaluator: Evaluator, plan: Plan, grid: Grid) -> Value:
        try:
            value = evaluator.value(plan, grid)
        except RecursionError:
            raise QueryError(TOO_DEEP) from None
        evaluator.check_time()
        return value

    # -------------------------------------------------------------- series and labels

    def series(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal, limit: int = 0
    ) -> list[Labels]:
        found: dict[Labels, None] = {}
        for matchers in selectors or ((),):
            asked = tuple(matchers), start_ms, end_ms, principal
            found.update(dict.fromkeys(self.reader.select_series(*asked)))
            if isinstance(self.reader, HistogramReader) and self.reader.may_hold_histograms(asked[0]):
                found.update(dict.fromkeys(self.reader.histogram_series(*asked)))
        ordered = sorted(found)
        return ordered[:limit] if limit else ordered

    def label_names(
        self, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        return sorted({name for labels in self.series(selectors, start_ms, end_ms, principal) for name, _ in labels})

    def label_values(
        self, name: str, selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int, principal: Principal
    ) -> list[str]:
        found = {
            value
            for labels in self.series(selectors, start_ms, end_ms, principal)
            for key, value in labels
            if key == name
        }
        return sorted(found)

    def metadata(self, principal: Principal) -> list[MetricMetadata]:
        return self.reader.metadata(principal)


def _result(kind: ResultType, block: SampleBlock, *evaluators: Evaluator, ordered: bool = False) -> QueryResult:
    warnings = dict.fromkeys(w for e in evaluators for w in e.notes.warnings)
    infos = dict.fromkeys(i for e in evaluators for i in e.notes.infos)
    read = sum(e.source.loaded for e in evaluators)
    return QueryResult(kind, block, warnings=tuple(warnings), infos=tuple(infos), sorted=ordered, samples_read=read)


def _raw(windows: Windows) -> SampleBlock:
    """The samples of one window a series, as an instant query of a range selector gives them."""
    lo, hi = bounds(windows.offsets, windows.ts, windows.ends[:1], windows.range_ms)
    return SampleBlock.build(
        (labels, windows.ts[a:b], windows.values[a:b])
        for labels, a, b in zip(windows.labels, lo[:, 0].tolist(), hi[:, 0].tolist(), strict=True)
        if b > a
    )
