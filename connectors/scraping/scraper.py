"""One target's scrapes: its text into samples with their final labels, and what has vanished since the last one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aiops.core.series import METRIC_NAME, STALE_NAN, Exemplar, Labels, MetricMetadata, SampleBlock, labels_of
from connectors.scraping.exposition import Exposition, labels_of_series
from connectors.scraping.relabel import RelabelConfig, relabel

REPORT = ("up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling",
          "scrape_series_added")  # fmt: skip
CACHE_SLACK = 2
"""The cache of series is emptied where it holds so many times more than the last scrape had, and 1,000."""


class ScrapeFailed(ValueError):
    """The target answered, but its answer is not to be stored; the message says why."""


@dataclass(frozen=True, slots=True)
class ScrapeRules:
    """What is done to samples; fields are those of a Prometheus scrape config, 0 means no limit."""

    honor_labels: bool = False
    honor_timestamps: bool = True
    steps: Sequence[RelabelConfig] = ()
    sample_limit: int = 0
    label_limit: int = 0
    label_name_length_limit: int = 0
    label_value_length_limit: int = 0


@dataclass(frozen=True, slots=True)
class Scraped:
    """One scrape's rows."""

    samples: SampleBlock
    exemplars: tuple[Exemplar, ...] = ()
    metadata: tuple[MetricMetadata, ...] = ()


@dataclass(frozen=True, slots=True)
class Steady:
    """The series of a scrape in which each had one sample without a time of its own; often the next one has them too.

    Attributes:
        kept: places of those that are stored, their labels first in ``labels``; the report's come last.
    """

    series: list[str]
    kept: NDArray[np.int64]
    labels: tuple[Labels, ...]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, text: Exposition, labels: Sequence[Labels | None], report: Sequence[Labels]) -> Steady:
        kept = np.array([i for i, found in enumerate(labels) if found is not None], np.int64)
        names = (*(found for found in labels if found is not None), *report)
        return cls(text.series, kept, names, np.arange(len(names) + 1, dtype=np.int64))

    def fits(self, text: Exposition, honor_timestamps: bool) -> bool:
        timeless = not honor_timestamps or text.times.count(None) == len(text.times)
        return timeless and text.series == self.series


class TargetScrapes:
    """Turns the texts of one target into rows. Used by one thread at a time."""

    def __init__(self, labels: Labels, rules: ScrapeRules) -> None:
        self._target = dict(labels)
        self._rules = rules
        self._known: dict[str, Labels | None] = {}
        self._last: set[Labels] = set()
        self._steady: Steady | None = None
        self._report = tuple(labels_of({**self._target, METRIC_NAME: name}) for name in REPORT)

    def good(self, text: Exposition, at_ms: int, duration_s: float) -> Scraped:
        """Rows of a scrape that began at ``at_ms``: its samples, markers of what is gone, and the report.

        Raises:
            ScrapeFailed: a limit is exceeded, or a series is not valid; call :meth:`failed` then.
        """
        if self._steady is not None and self._steady.fits(text, self._rules.honor_timestamps):
            return self._again(self._steady, text, at_ms, duration_s)
        rules = self._rules
        rows: dict[tuple[Labels, int], float] = {}
        own: set[Labels] = set()
        kept: list[Labels | None] = []
        for key, value, given in zip(text.series, text.values, text.times, strict=True):
            labels = self._known[key] if key in self._known else self._learn(key)
            kept.append(labels)
            if labels is None:
                continue
            if given is None or not rules.honor_timestamps:
                own.add(labels)
                given = at_ms
            rows.setdefault((labels, given), value)
        post = len(kept) - kept.count(None)
        if rules.sample_limit and post > rules.sample_limit:
            raise ScrapeFailed(f"sample limit exceeded (limit: {rules.sample_limit})")
        added, gone, self._last = len(own - self._last), self._last - own, own
        self._steady = Steady.of(text, kept, self._report) if len(rows) == len(own) == post else None
        if len(self._known) > CACHE_SLACK * len(kept) + 1000:
            self._known.clear()
        report = (1.0, duration_s, float(len(kept)), float(post), float(added))
        block = self._block(
            [found for found, _ in rows], [ts for _, ts in rows], list(rows.values()), gone, report, at_ms
        )
        return Scraped(block, tuple(self._exemplars(text, at_ms)), tuple(text.metadata.values()))

    def _again(self, steady: Steady, text: Exposition, at_ms: int, duration_s: float) -> Scraped:
        """A scrape with the series of the last one."""
        values = np.array(text.values)[steady.kept]
        report = (1.0, duration_s, float(len(text.values)), float(len(values)), 0.0)
        names = steady.labels
        block = SampleBlock(
            names, steady.offsets, np.full(len(names), at_ms, np.int64), np.concatenate([values, report])
        )
        return Scraped(block, tuple(self._exemplars(text, at_ms)), tuple(text.metadata.values()))

    def failed(self, at_ms: int, duration_s: float, scraped: int = 0) -> Scraped:
        """Rows of a scrape that failed: all that was there is gone, and the report has ``up`` 0."""
        gone, self._last, self._steady = self._last, set(), None
        return Scraped(self._block([], [], [], gone, (0.0, duration_s, float(scraped), 0.0, 0.0), at_ms))

    def ended(self, at_ms: int) -> Scraped:
        """Rows that say that the target itself is gone: markers for all its series, the report's included."""
        gone, self._last = self._last | set(self._report), set()
        return Scraped(self._block([], [], [], gone, (), at_ms))

    def _block(
        self, labels: list[Labels], times: list[int], values: list[float],
        gone: set[Labels], report: Sequence[float], at_ms: int,
    ) -> SampleBlock:  # fmt: skip
        """Several samples of one series (at times of its own) lie side by side, in order of time."""
        names = [*labels, *gone, *self._report[: len(report)]]
        ts = np.array([*times, *[at_ms] * (len(gone) + len(report))], np.int64)
        numbers = np.array([*values, *[STALE_NAN] * len(gone), *report], np.float64)
        if len(set(names)) == len(names):
            return SampleBlock(tuple(names), np.arange(len(names) + 1, dtype=np.int64), ts, numbers)
        place = {found: i for i, found in enumerate(dict.fromkeys(names))}
        numbered = np.array([place[found] for found in names])
        order = np.lexsort((ts, numbered))
        counts = np.bincount(numbered, minlength=len(place))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return SampleBlock(tuple(place), offsets, ts[order], numbers[order])

    def _learn(self, key: str) -> Labels | None:
        try:
            labels = self._known[key] = self._final(dict(labels_of_series(key)))
        except ValueError as error:
            raise ScrapeFailed(str(error)) from error
        return labels

    def _final(self, labels: dict[str, str]) -> Labels | None:
        """A series' labels with the target's, relabelled; ``None`` where it is dropped."""
        for name, value in self._target.items():
            if name not in labels:
                labels[name] = value
            elif not self._rules.honor_labels:
                taken = labels[name]
                labels[name] = value
                moved = f"exported_{name}"
                while moved in labels or moved in self._target:
                    moved = f"exported_{moved}"
                labels[moved] = taken
        relabelled = relabel(labels, self._rules.steps)
        if relabelled is None:
            return None
        if not relabelled.get(METRIC_NAME):
            raise ScrapeFailed("missing metric name (__name__ label)")
        self._check(relabelled)
        return labels_of(relabelled)

    def _check(self, labels: Mapping[str, str]) -> None:
        rules = self._rules
        if rules.label_limit and len(labels) > rules.label_limit:
            raise ScrapeFailed(f"label_limit exceeded ({len(labels)} labels, limit: {rules.label_limit})")
        for name, value in labels.items():
            if rules.label_name_length_limit and len(name) > rules.label_name_length_limit:
                raise ScrapeFailed(f"label_name_length_limit exceeded (limit: {rules.label_name_length_limit})")
            if rules.label_value_length_limit and len(value) > rules.label_value_length_limit:
                raise ScrapeFailed(f"label_value_length_limit exceeded (limit: {rules.label_value_length_limit})")

    def _exemplars(self, text: Exposition, at_ms: int) -> list[Exemplar]:
        found = []
        for given in text.exemplars:
            series = self._known.get(given.series)
            if series is not None:
                found.append(Exemplar(series, given.labels, given.value, given.ts or at_ms))
        return found
