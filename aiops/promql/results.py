"""Answers of range queries, kept so that a dashboard's next refresh evaluates only the steps that are new.

A step's value depends on samples up to its own time (later ones only by a negative offset), so it stands until the
reader reports a change before that. Nothing is guessed: late samples, deletions and reopened files are such changes.
Queries in which a step depends on the query's own range (``@``, ``start()``, ``end()``, ``range()``), and answers that
carry warnings or infos, are not kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from aiops.core.series import Labels
from aiops.promql.frame import Frame, Ints
from aiops.promql.plan import Call, Plan, Selector, Subquery, walk

_OF_THE_RANGE = frozenset({"start", "end", "range"})


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer: a finished frame over evenly spaced steps, true as of the reader's ``version``."""

    frame: Frame
    times: Ints
    version: int

    @property
    def size(self) -> int:
        """Bytes, about."""
        labels = sum(64 + sum(len(k) + len(v) + 32 for k, v in pairs) for pairs in self.frame.labels)
        return self.frame.values.nbytes + self.frame.ok.nbytes + self.times.nbytes + labels

    def between(self, start_ms: int, end_ms: int) -> Kept | None:
        """Steps within the two times; ``None`` where there are none."""
        a, b = np.searchsorted(self.times, [start_ms, end_ms + 1]).tolist()
        if a >= b:
            return None
        cut = Frame(self.frame.labels, self.frame.values[:, a:b], self.frame.ok[:, a:b], self.frame.drop)
        return Kept(cut.compact(), self.times[a:b], self.version)


class KeptResults:
    """Answers by query, step and phase, under a byte budget; what was not used for longest goes first."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Kept | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: Hashable, kept: Kept) -> None:
        size = kept.size
        with self._lock:
            former = self._kept.pop(key, None)
            if former is not None:
                self._size -= former.size
            if size * 4 > self.budget:
                return
            self._kept[key] = kept
            self._size += size
            while self._size > self.budget:
                _, oldest = self._kept.popitem(last=False)
                self._size -= oldest.size


def reach_ms(plan: Plan) -> int | None:
    """How far beyond a step's time its value may look, in ms; ``None`` where steps depend on the query's range."""
    reach = 0
    for node in walk(plan):
        if isinstance(node, Selector | Subquery):
            if node.at is not None:
                return None
            reach += max(0, -node.offset_ms)
        elif isinstance(node, Call) and node.function in _OF_THE_RANGE:
            return None
    return reach


def joined(parts: list[Frame]) -> Frame:
    """Frames of consecutive steps side by side."""
    rows: dict[Labels, int] = {}
    for part in parts:
        for labels in part.labels:
            rows.setdefault(labels, len(rows))
    shape = (len(rows), sum(part.ok.shape[1] for part in parts))
    values, ok = np.zeros(shape), np.zeros(shape, bool)
    column = 0
    for part in parts:
        width = part.ok.shape[1]
        at = np.array([rows[labels] for labels in part.labels], np.int64)
        values[at, column : column + width] = part.values
        ok[at, column : column + width] = part.ok
        column += width
    return Frame(list(rows), values, ok, np.zeros(len(rows), bool))
