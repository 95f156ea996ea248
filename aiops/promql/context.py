"""What an evaluation works with: its times, its samples, its notes, its kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.ports import MetricReader, OpenScan, RollupReader, StreamedReader
from aiops.core.principal import Principal
from aiops.core.series import Matcher, SampleBlock
from aiops.promql.frame import Bools, Floats, Ints
from aiops.promql.places import place
from aiops.promql.plan import Anchor, At, Subquery

DEFAULT_SUBQUERY_STEP_MS = 60_000
ROLLUPS_MS = (3_600_000, 300_000)
"""Resolutions of what is kept of old samples, coarsest first."""
DAY_MS = 86_400_000
TOO_MANY = "query processing would load too many samples into memory in query execution"


@dataclass(frozen=True, slots=True)
class Kernels:
    """Compiled stand-ins for the NumPy functions."""

    bounds: Callable[..., Any]
    over_windows: Callable[..., tuple[Floats, Bools]]
    accumulate: Callable[..., Any]
    part_windows: Callable[..., tuple[Floats, Bools]]
    part_newest: Callable[..., None]
    any_stale: Callable[[Floats], bool]


@dataclass(slots=True)
class Notes:
    """Warnings and infos on a query, each once, in order, with the place that they are about."""

    text: str = ""
    warnings: dict[str, None] = field(default_factory=dict)
    infos: dict[str, None] = field(default_factory=dict)

    def add(self, kind: str, message: str, start: int) -> None:
        """``start`` is the character offset of what the note is about."""
        where = f" ({place(self.text, start)})"
        if kind == "warning":
            self.warnings[f"PromQL warning: {message}{where}"] = None
        else:
            self.infos[f"PromQL info: {message}{where}"] = None


@dataclass(slots=True)
class Source:
    """The samples of a query: one scan a distinct selector, over the hull of all times that ask for it."""

    reader: MetricReader
    principal: Principal
    lookback_ms: int
    max_samples: int
    hulls: dict[tuple[Matcher, ...], tuple[int, int]] = field(default_factory=dict)
    blocks: dict[tuple[Matcher, ...], SampleBlock] = field(default_factory=dict)
    opened: dict[tuple[Matcher, ...], OpenScan] = field(default_factory=dict)
    loaded: int = 0
    _raw_from_ms: int | None = None

    def want(self, matchers: tuple[Matcher, ...], start_ms: int, end_ms: int) -> None:
        low, high = self.hulls.get(matchers, (start_ms, end_ms))
        self.hulls[matchers] = (min(low, start_ms), max(high, end_ms))

    def open(self, matchers: tuple[Matcher, ...]) -> OpenScan | None:
        """The same samples, to be read part by part; ``None`` where the reader cannot or they are read already."""
        if matchers in self.blocks or matchers not in self.hulls or not isinstance(self.reader, StreamedReader):
            return None
        scan = self.opened.get(matchers)
        if scan is None:
            scan = self.reader.open_scan(matchers, *self.hulls[matchers], self.principal, self.max_samples)
            self.loaded += scan.sample_count
            if self.loaded > self.max_samples:
                raise QueryError(TOO_MANY, kind="execution")
            self.opened[matchers] = scan
        return scan

    def rollup(self, matchers: tuple[Matcher, ...], ends: Ints, range_ms: int, column: str) -> OpenScan | None:
        """Buckets for windows ``(end - range_ms, end]``; ``None`` where none are kept or they do not fit exactly."""
        if not isinstance(self.reader, RollupReader) or not len(ends):
            return None
        for resolution in ROLLUPS_MS:
            if range_ms % resolution == 0 and not bool((ends % resolution).any()):
                low, high = int(ends.min()) - range_ms, int(ends.max())
                scan = self.reader.open_rollup(matchers, low, high, resolution, column, self.principal)
                if scan is not None:
                    self.loaded += scan.sample_count
                    if self.loaded > self.max_samples:
                        raise QueryError(TOO_MANY, kind="execution")
                    return scan
        return None

    def older(self, times: Ints) -> Bools:
        """Times up to the first sample that is still held, where buckets may tell more: bool [T]."""
        if self._raw_from_ms is None:
            self._raw_from_ms = self.reader.raw_from_ms() if isinstance(self.reader, RollupReader) else None
        return np.asarray(times <= self._raw_from_ms) if self._raw_from_ms is not None else np.zeros(len(times), bool)

    def last_of_buckets(self, matchers: tuple[Matcher, ...], times: Ints) -> tuple[OpenScan, int] | None:
        """The last sample of each bucket about the times, at the bucket's end, and the buckets' length: the finest."""
        if not isinstance(self.reader, RollupReader):
            return None
        for resolution in reversed(ROLLUPS_MS):
            low, high = (int(times.min()) - resolution) // DAY_MS * DAY_MS, -(-int(times.max()) // DAY_MS) * DAY_MS
            scan = self.reader.open_rollup(matchers, low, high, resolution, "last", self.principal)
            if scan is not None:
                self.loaded += scan.sample_count
                if self.loaded > self.max_samples:
                    raise QueryError(TOO_MANY, kind="execution")
                return scan, resolution
        return None

    def get(self, matchers: tuple[Matcher, ...]) -> SampleBlock:
        block = self.blocks.get(matchers)
        if block is None:
            if matchers not in self.hulls:
                return SampleBlock.empty()
            start, end = self.hulls[matchers]
            block = self.reader.scan(matchers, start, end, self.principal)
            self.loaded += block.sample_count
            if self.loaded > self.max_samples:
                raise QueryError(TOO_MANY, kind="execution")
            self.blocks[matchers] = block
        return block


@dataclass(frozen=True, slots=True)
class Grid:
    """Evaluation times, and the query's own start, end and step, which ``@`` and ``start()`` name."""

    times: Ints
    start_ms: int
    end_ms: int
    step_ms: int

    @property
    def steps(self) -> int:
        return len(self.times)

    @classmethod
    def between(cls, start_ms: int, end_ms: int, step_ms: int) -> Grid:
        return cls(np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64), start_ms, end_ms, step_ms)

    def around(self, times: Ints | None) -> list[Grid | None]:
        """The steps before ``times``, ``None`` in the place of those, and the steps after; all where it is None."""
        if times is None:
            return [self]
        first, last = int(times[0]), int(times[-1])
        parts: list[Grid | None] = []
        if first > self.start_ms:
            parts.append(Grid.between(self.start_ms, first - self.step_ms, self.step_ms))
        parts.append(None)
        if last + self.step_ms <= self.end_ms:
            parts.append(Grid.between(last + self.step_ms, self.end_ms, self.step_ms))
        return parts

    def reference(self, at: At, offset_ms: int) -> Ints:
        """The times that a selector looks at."""
        if at is None:
            return self.times - offset_ms
        fixed = self.start_ms if at is Anchor.START else self.end_ms if at is Anchor.END else int(at)
        return np.full(len(self.times), fixed - offset_ms, np.int64)


def subquery_grid(node: Subquery, ends: Ints, most: int) -> Ints:
    """Absolute multiples of the step in the hull of all windows ``(end - range, end]``, ``most`` at most."""
    step = node.step_ms or DEFAULT_SUBQUERY_STEP_MS
    low, high = int(ends.min()) - node.range_ms, int(ends.max())
    if (high - low) // step > most:
        raise QueryError(TOO_MANY, kind="execution")
    return np.arange((low // step + 1) * step, high + 1, step, dtype=np.int64)
