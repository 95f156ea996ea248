"""Values of expressions over a grid of steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Labels

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]

SAME_LABELS = "vector cannot contain metrics with the same labelset"


@dataclass(slots=True)
class Frame:
    """An instant vector at each step.

    Attributes:
        labels: label sets, length S.
        values: float64 [S, T].
        ok: bool [S, T]; where false there is no sample, whatever ``values`` holds.
        drop: bool [S]; the metric name is dropped at the very end (delayed name removal).
        ordered: the expression itself orders the series.
    """

    labels: list[Labels]
    values: Floats
    ok: Bools
    drop: Bools
    ordered: bool = False

    @classmethod
    def empty(cls, steps: int) -> Frame:
        return cls([], np.empty((0, steps)), np.empty((0, steps), bool), np.empty(0, bool))

    @classmethod
    def single(cls, labels: Labels, values: Floats, ok: Bools | None = None) -> Frame:
        present = np.ones(len(values), bool) if ok is None else ok
        return cls([labels], values.reshape(1, -1), present.reshape(1, -1), np.zeros(1, bool)).compact()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Ints | Bools) -> Frame:
        """The given rows, in that order."""
        index = np.nonzero(rows)[0] if rows.dtype == bool else rows
        return Frame([self.labels[i] for i in index.tolist()], self.values[index], self.ok[index], self.drop[index])

    def compact(self) -> Frame:
        """Without series that have no sample at all."""
        alive: Bools = np.asarray(self.ok.any(axis=1))
        if bool(alive.all()):
            return self
        kept = self.take(alive)
        kept.ordered = self.ordered
        return kept

    def with_values(self, values: Floats, ok: Bools | None = None, *, drop_name: bool = True) -> Frame:
        """Same series, other values; with ``drop_name`` the name goes at the end."""
        drop = np.ones(len(self), bool) if drop_name else self.drop
        return Frame(self.labels, values, self.ok if ok is None else ok, drop)

    def merged(self, message: str = SAME_LABELS) -> Frame:
        """Series of equal labels joined. Raises ``QueryError`` where two have a sample at one step."""
        first: dict[Labels, int] = {}
        target = np.array([first.setdefault(labels, len(first)) for labels in self.labels], np.int64)
        if len(first) == len(self.labels):
            return self
        steps = self.ok.shape[1]
        values, ok = np.zeros((len(first), steps)), np.zeros((len(first), steps), bool)
        drop = np.zeros(len(first), bool)
        for row, to in enumerate(target.tolist()):
            here = self.ok[row]
            if bool((ok[to] & here).any()):
                raise QueryError(message, kind="execution")
            values[to] = np.where(here, self.values[row], values[to])
            ok[to] |= here
            drop[to] |= self.drop[row]
        return Frame(list(first), values, ok, drop, self.ordered)

    def finished(self) -> Frame:
        """With delayed names dropped and equal series joined."""
        if bool(self.drop.any()):
            self = Frame(
                [without_name(labels) if gone else labels for labels, gone in zip(self.labels, self.drop, strict=True)],
                self.values,
                self.ok,
                np.zeros(len(self), bool),
                self.ordered,
            )
        return self.compact().merged()


@dataclass(slots=True)
class Scalars:
    """A scalar at each step: float64 [T]."""

    values: Floats


Value: TypeAlias = "Frame | Scalars | str"


@dataclass(slots=True)
class Windows:
    """A range vector: samples in CSR form, and for each step the window ``(ends - range_ms, ends]``.

    Attributes:
        ends: int64 [T]; windows may all be the same (``@``).
        range_ms: their length.
        eval_times: int64 [T], the steps at which the expression is evaluated.
    """

    labels: list[Labels]
    drop: Bools
    offsets: Ints
    ts: Ints
    values: Floats
    ends: Ints
    range_ms: int
    eval_times: Ints


def without_name(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] != METRIC_NAME)


def label_value(labels: Labels, name: str) -> str:
    for key, value in labels:
        if key == name:
            return value
    return ""


def set_labels(labels: Labels, changes: Iterable[tuple[str, str]]) -> Labels:
    """Labels with some set, or removed where the new value is empty."""
    merged = dict(labels)
    merged.update(changes)
    return tuple(sorted((k, v) for k, v in merged.items() if v))


def grouping(labels: Sequence[Labels], names: Sequence[str], keep: bool) -> tuple[Ints, list[Labels]]:
    """Group ids [S] and the labels of each group.

    Args:
        keep: group by ``names``; otherwise by all other labels but the metric name.
    """
    wanted = frozenset(names) if keep else frozenset(names) | {METRIC_NAME}
    if keep and not wanted:
        return np.zeros(len(labels), np.int64), [()] if labels else []
    if keep and len(wanted) == 1:
        return _by_one(labels, *wanted)
    groups: dict[Labels, int] = {}
    ids = []
    for pairs in labels:
        key = tuple([pair for pair in pairs if (pair[0] in wanted) == keep])
        ids.append(groups.setdefault(key, len(groups)))
    return np.array(ids, np.int64), list(groups)


def _by_one(labels: Sequence[Labels], name: str) -> tuple[Ints, list[Labels]]:
    """By the one label, which nearly all queries group by: a third of the time."""
    groups: dict[tuple[str, str] | None, int] = {}
    ids = []
    for pairs in labels:
        for pair in pairs:
            if pair[0] == name:
                ids.append(groups.setdefault(pair, len(groups)))
                break
        else:
            ids.append(groups.setdefault(None, len(groups)))
    return np.array(ids, np.int64), [(pair,) if pair is not None else () for pair in groups]
