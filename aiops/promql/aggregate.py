"""Aggregation operators. Sums, means and extremes take blocks of series, so that a matrix need not be built first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.series import Labels
from aiops.promql.frame import Bools, Floats, Frame, Ints, grouping, set_labels
from aiops.promql.label_hash import label_hash
from aiops.promql.plan import number_text
from aiops.promql.windows import avg_result, avg_step, neumaier, quantile_of

STREAMED = ("sum", "avg", "count", "min", "max", "group", "stddev", "stdvar")
_MAX_INT = 9.2e18


@dataclass(slots=True)
class Accumulator:
    """Running state of one streamed operator: arrays [groups, steps]."""

    op: str
    count: Floats
    total: Floats
    rest: Floats
    mean: Floats
    running: Bools
    kernel: Callable[..., Any] | None = None

    @classmethod
    def start(cls, op: str, groups: int, steps: int, kernel: Callable[..., Any] | None = None) -> Accumulator:
        shape = (groups, steps)
        count, total, rest, mean = (np.zeros(shape) for _ in range(4))
        return cls(op, count, total, rest, mean, np.zeros(shape, bool), kernel)

    def add(self, values: Floats, ok: Bools, ids: Ints) -> None:
        """Take in a block of series: values and ok [B, T], group ids [B]."""
        if self.kernel is not None:
            self.kernel(
                STREAMED.index(self.op), values, ok, ids, self.count, self.total, self.rest, self.mean, self.running
            )
            return
        with np.errstate(all="ignore"):
            for row, group in enumerate(ids.tolist()):
                here = ok[row]
                if here.all():
                    self._add(group, slice(None), values[row])
                elif here.any():
                    at = np.nonzero(here)[0]
                    self._add(group, at, values[row, at])

    def _add(self, g: int, at: Any, value: Floats) -> None:
        self.count[g, at] += 1
        count = self.count[g, at]
        first = count == 1
        match self.op:
            case "sum":
                self.total[g, at], self.rest[g, at] = neumaier(value, self.total[g, at], self.rest[g, at])
            case "avg":
                total, rest, mean, running = avg_step(
                    value, count, self.total[g, at], self.rest[g, at], self.mean[g, at], self.running[g, at]
                )
                self.total[g, at] = np.where(first, value, total)
                self.rest[g, at] = np.where(first, 0.0, rest)
                self.mean[g, at] = np.where(first, 0.0, mean)
                self.running[g, at] = running & ~first
            case "min" | "max":
                best = self.total[g, at]
                better = value < best if self.op == "min" else value > best
                self.total[g, at] = np.where(first | better | np.isnan(best), value, best)
            case "stddev" | "stdvar":
                mean = self.mean[g, at]
                delta = value - mean
                mean = mean + delta / count
                self.total[g, at] += np.where(first & np.isfinite(value), 0.0, delta * (value - mean))
                self.mean[g, at] = mean

    def result(self) -> tuple[Floats, Bools]:
        ok = self.count > 0
        with np.errstate(all="ignore"):
            match self.op:
                case "sum":
                    out = np.where(np.isinf(self.total), self.total, self.total + self.rest)
                case "avg":
                    out = avg_result(self.count, self.total, self.rest, self.mean, self.running)
                case "count":
                    out = self.count
                case "group":
                    out = np.ones_like(self.count)
                case "stddev":
                    out = np.sqrt(self.total / self.count)
                case "stdvar":
                    out = self.total / self.count
                case _:
                    out = self.total
        return out, ok


def group_drop(drop: Bools, ids: Ints, groups: int) -> Bools:
    out = np.zeros(groups, bool)
    np.logical_or.at(out, ids, drop)
    return out


def _integer(param: Floats, size: int) -> Ints:
    if bool(np.isnan(param).any()):
        raise QueryError("Parameter value is NaN", kind="execution")
    if bool((np.abs(param) >= _MAX_INT).any()):
        bad = float(param[np.abs(param) >= _MAX_INT][0])
        way = "overflows" if bad > 0 else "underflows"
        shown = number_text(bad) if np.isinf(bad) else repr(bad)
        raise QueryError(f"Scalar value {shown} {way} int64", kind="execution")
    return np.clip(param, 0, size).astype(np.int64)


def _members(ids: Ints) -> list[Ints]:
    """Rows of each group, ascending; groups in order of their number."""
    order = np.argsort(ids, kind="stable")
    return [own for own in np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(own)]


def _rank(values: Floats, present: Bools, op: str) -> tuple[Ints, Ints]:
    """Rows in order of value at each step, NaN and then absent ones last, and the place of each row: [S, T] both."""
    key = np.where(np.isnan(values), np.inf, -values if op == "topk" else values)
    tier = np.where(~present, 2, np.where(np.isnan(values), 1, 0))
    ranked = np.lexsort((key, tier), axis=0)
    rank = np.empty_like(ranked)
    np.put_along_axis(rank, ranked, np.arange(len(values))[:, None] * np.ones_like(ranked), axis=0)
    return ranked, rank


def top(frame: Frame, op: str, k: Floats, labels: tuple[str, ...], without: bool) -> Frame:
    """``topk``, ``bottomk``: NaN last. With one step the result is in order."""
    limit = _integer(k, len(frame))
    ids, _ = grouping(frame.labels, labels, not without)
    ok = np.zeros_like(frame.ok)
    order: list[int] = []
    for rows in _members(ids):
        values, present = frame.values[rows], frame.ok[rows]
        ranked, rank = _rank(values, present, op)
        ok[rows] = present & (rank < limit)
        if ok.shape[1] == 1:
            order.extend(rows[ranked[:, 0]].tolist())
    out = Frame(frame.labels, frame.values, ok, frame.drop)
    if ok.shape[1] == 1:
        out = out.take(np.array(order, np.int64))
        out.ordered = True
    return out.compact()


@dataclass(slots=True)
class Leaders:
    """The series that ``topk`` and ``bottomk`` may still choose, taken in by blocks in the order of the series.

    A later series displaces an earlier one only where it is strictly ahead, so one that is behind in its own block
    and all before it stays behind.
    """

    op: str
    most: int
    ids: Ints
    rows: Ints
    values: Floats
    ok: Bools

    @classmethod
    def start(cls, op: str, k: Floats, ids: Ints, steps: int) -> Leaders:
        """``ids`` are the groups of all series, int64 [S]."""
        most = int(_integer(k, len(ids)).max(initial=0))
        return cls(op, most, ids, np.empty(0, np.int64), np.empty((0, steps)), np.empty((0, steps), bool))

    def add(self, part: slice, values: Floats, ok: Bools) -> None:
        """Take in a block: values and ok [B, T]."""
        rows = np.concatenate([self.rows, np.arange(part.start, part.stop)])
        values, ok = np.concatenate([self.values, values]), np.concatenate([self.ok, ok])
        alive = np.ones(len(rows), bool)
        for own in _members(self.ids[rows]):
            if own[-1] >= len(self.rows):  # some of the group are new
                alive[own] = self._leads(values[own], ok[own]).any(axis=1)
        self.rows, self.values, self.ok = rows[alive], values[alive], ok[alive]

    def _leads(self, values: Floats, ok: Bools) -> Bools:
        """Where a value is among the first; a few more than ``most`` where several are equal."""
        if len(values) <= self.most or not self.most:
            return np.asarray(ok & (self.most > 0))
        key = np.where(ok & ~np.isnan(values), values if self.op == "topk" else -values, -np.inf)
        place = len(key) - self.most
        leads = ok & (key >= np.partition(key, place, axis=0)[place])
        if int(leads.sum(axis=0).max(initial=0)) > 2 * self.most:  # of many equal values the first ones do
            leads = ok & (_rank(values, ok, self.op)[1] < self.most)
        return np.asarray(leads)


def limit(frame: Frame, k: Floats, labels: tuple[str, ...], without: bool) -> Frame:
    """``limitk``: the first k series of each group."""
    most = _integer(k, len(frame))
    ids, groups = grouping(frame.labels, labels, not without)
    ok = np.zeros_like(frame.ok)
    for group in range(len(groups)):
        rows = np.nonzero(ids == group)[0]
        ok[rows] = frame.ok[rows] & (np.cumsum(frame.ok[rows], axis=0) <= most)
    return Frame(frame.labels, frame.values, ok, frame.drop).compact()


def limit_ratio(frame: Frame, ratio: Floats) -> Frame:
    """``limit_ratio``: a share of the series by their hash; a negative ratio gives the complement."""
    if bool(np.isnan(ratio).any()):
        raise QueryError("Ratio value is NaN", kind="execution")
    share = np.array([label_hash(labels) / (1 << 64) for labels in frame.labels]).reshape(-1, 1)
    r = np.clip(ratio, -1, 1)
    picked = np.where(r >= 0, share < r, share >= 1 + r)
    return Frame(frame.labels, frame.values, frame.ok & picked, frame.drop).compact()


def quantile(frame: Frame, q: Floats, labels: tuple[str, ...], without: bool) -> Frame:
    ids, groups = grouping(frame.labels, labels, not without)
    steps = frame.ok.shape[1]
    values, ok = np.zeros((len(groups), steps)), np.zeros((len(groups), steps), bool)
    with np.errstate(all="ignore"):
        for group in range(len(groups)):
            rows = np.nonzero(ids == group)[0]
            present = frame.ok[rows]
            table = np.where(present, frame.values[rows], np.nan).T
            values[group] = quantile_of(q, table, present.sum(axis=0))
            ok[group] = present.any(axis=0)
    return Frame(groups, values, ok, group_drop(frame.drop, ids, len(groups)))


def count_values(frame: Frame, label: str, labels: tuple[str, ...], without: bool) -> Frame:
    """``count_values``: how many series have each value, which becomes a label as Go prints it."""
    steps = frame.ok.shape[1]
    counts: dict[Labels, Floats] = {}
    names = labels if without else (*labels, label)
    text: dict[bytes, str] = {}
    for row, own in enumerate(frame.labels):
        at = np.nonzero(frame.ok[row])[0]
        for step in at.tolist():
            value = frame.values[row, step]
            # By its bits, since 0 and -0 are equal and print unlike.
            word = text.get(value.tobytes()) or text.setdefault(value.tobytes(), number_text(float(value)))
            _, (key,) = grouping([set_labels(own, [(label, word)])], names, not without)
            if key not in counts:
                counts[key] = np.zeros(steps)
            counts[key][step] += 1
    if not counts:
        return Frame.empty(steps)
    values = np.array(list(counts.values()))
    return Frame(list(counts), values, values > 0, np.zeros(len(counts), bool))
