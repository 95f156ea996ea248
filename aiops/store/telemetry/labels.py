"""Interned label sets and their postings, in memory: which series match.

A series' number ``sid`` is its place in these lists. Regular expressions are RE2, fully anchored, as Prometheus'.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import re2
from numpy.typing import NDArray

from aiops.core.errors import QueryError
from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp

IDENTITY_LIMIT = 2_000_000
NO_ROOM = -2
"""In the place of a number: the label set is new and there are ``limit`` already."""
NEVER_FIRST = np.iinfo(np.int64).max
NEVER_LAST = np.iinfo(np.int64).min


class SeriesIndex:
    """Label sets by number, with the time each was first and last seen (ms).

    Attributes:
        first, last: of the committed samples.
        claimed: like ``last``, with samples that are about to be committed.
        stored: the last sample that the database file holds.
        limit: label sets with samples at most, 0 for no limit; further ones get :data:`NO_ROOM`.
        refused: how often that happened.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.refused = 0
        self._gone = 0
        self.labels: list[Labels] = []
        self.first = np.empty(0, np.int64)
        self.last = np.empty(0, np.int64)
        self.claimed = np.empty(0, np.int64)
        self.stored = np.empty(0, np.int64)
        self._by_labels: dict[Labels, int] = {}
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}
        self._by_identity: dict[int, int] = {}
        self._kept: list[Labels] = []
        self.generation = 0
        """Counts up when numbers lose their meaning."""
        self._postings: dict[str, dict[str, list[int]]] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self.labels)

    def intern(self, labels: Sequence[Labels]) -> NDArray[np.int32]:
        """Numbers of label sets, new ones where there are none. Only the head's thread calls it.

        Decoders hand over the same tuple objects again and again; these are found by identity, which saves
        hashing them. An object in that cache is kept alive, so its id cannot come to mean another one.
        """
        found = list(map(self._by_identity.get, map(id, labels)))
        if None in found:
            with self._lock:
                for i, sid in enumerate(found):
                    if sid is None:
                        found[i] = self._slow(labels[i])
                self._grow()
        return np.array(found, np.int32)

    def number(self, labels: Sequence[Labels]) -> NDArray[np.int32]:
        """As :meth:`intern`, for label sets that are made anew for each call, of encodable text."""
        with self._lock:
            found = []
            for one in labels:
                sid = self._by_labels.get(one)
                found.append(self._new(one) if sid is None else sid)
            self._grow()
        return np.array(found, np.int32)

    def _slow(self, labels: Labels) -> int:
        given = labels
        labels = tuple((encodable(name), encodable(value)) for name, value in labels)
        sid = self._by_labels.get(labels)
        if sid is None:
            sid = self._new(labels)
        if sid == NO_ROOM:
            return sid
        if len(self._kept) >= IDENTITY_LIMIT:
            self._by_identity.clear()
            self._kept.clear()
        self._by_identity[id(given)] = sid
        self._kept.append(given)
        return sid

    def live(self) -> int:
        """Label sets that have samples, or had none yet."""
        return len(self._by_labels) - self._gone

    def _new(self, labels: Labels) -> int:
        if self.limit and self.live() >= self.limit:
            self.refused += 1
            return NO_ROOM
        return self.add(labels)

    def count_gone(self) -> None:
        """Count the label sets whose samples are all past their time; they make room for others."""
        without = int(np.count_nonzero(self.last[: len(self.labels)] == NEVER_LAST))
        self._gone = without - (len(self.labels) - len(self._by_labels))

    def add(self, labels: Labels) -> int:
        sid = len(self.labels)
        # Series share most of their pairs: one object each is kept.
        shared = self._pairs.setdefault
        labels = tuple([shared(pair, pair) for pair in labels])
        self.labels.append(labels)
        self._by_labels[labels] = sid
        for name, value in labels:
            values = self._postings.get(name)
            if values is None:
                values = self._postings[name] = {}
            sids = values.get(value)
            if sids is None:
                values[value] = [sid]
            else:
                sids.append(sid)
        return sid

    def _grow(self) -> None:
        missing = len(self.labels) - len(self.first)
        if missing > 0:
            room = max(missing, len(self.first) // 2, 1024)
            self.first = np.concatenate([self.first, np.full(room, NEVER_FIRST, np.int64)])
            for name in ("last", "claimed", "stored"):
                setattr(self, name, np.concatenate([getattr(self, name), np.full(room, NEVER_LAST, np.int64)]))

    def put(self, sid: int, labels: Labels) -> None:
        """A series by its number, as the journal has it. Numbers that are passed over match nothing."""
        with self._lock:
            if sid < len(self.labels):
                return
            while len(self.labels) < sid:
                self.labels.append(())
            self.add(labels)
            self._grow()

    def load(self, rows: Iterable[tuple[int, list[str], list[str]]]) -> None:
        """Fill from the file; rows ordered by number. Numbers that were freed are passed over."""
        for sid, names, values in rows:
            if sid < len(self.labels):
                raise QueryError(f"Series {sid} of the telemetry file is out of order.", kind="execution")
            while len(self.labels) < sid:
                self.labels.append(())
            if names:
                self.add(tuple(zip(names, values, strict=True)))
            else:
                self.labels.append(())
        self._grow()

    def saw(self, sids: NDArray[np.int32], first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
        np.minimum.at(self.first, sids, first)
        np.maximum.at(self.last, sids, last)

    def forget_before(self, bound_ms: int) -> None:
        """Samples before ``bound_ms`` are gone: series without later ones match no more."""
        size = len(self.labels)
        first, last = self.first[:size], self.last[:size]
        gone = last < bound_ms
        first[gone], last[gone] = NEVER_FIRST, NEVER_LAST
        np.maximum(first, bound_ms, out=first)
        self.count_gone()

    def ended(self, bound_ms: int, *, unseen: bool) -> NDArray[np.int64]:
        """Series whose last sample was before ``bound_ms``; ``unseen`` counts those with no known sample among them."""
        size = len(self.labels)
        claimed = self.claimed[:size]
        gone = claimed < bound_ms
        if not unseen:
            gone &= claimed != NEVER_LAST
        return np.array([sid for sid in np.flatnonzero(gone).tolist() if self.labels[sid]], np.int64)

    def free(self, sids: NDArray[np.int64]) -> None:
        """Give the label sets' memory back. Their numbers are not used again; the head's thread has to stand still."""
        with self._lock:
            freed = set(sids.tolist())
            touched: set[tuple[str, str]] = set()
            for sid in freed:
                labels = self.labels[sid]
                del self._by_labels[labels]
                touched.update(labels)
                self.labels[sid] = ()
            for pair in touched:
                name, value = pair
                left = [sid for sid in self._postings[name][value] if sid not in freed]
                if left:
                    self._postings[name][value] = left
                    continue
                del self._postings[name][value], self._pairs[pair]
                if not self._postings[name]:
                    del self._postings[name]
            self._by_identity.clear()
            self._kept.clear()
            self.generation += 1
            for times, nothing in ((self.first, NEVER_FIRST), (self.last, NEVER_LAST), (self.claimed, NEVER_LAST)):
                times[sids] = nothing
            self.stored[sids] = NEVER_LAST
            self.count_gone()

    # ------------------------------------------------------------------ selecting

    def select(
        self, matchers: Sequence[Matcher], principal: Principal, start_ms: int | None = None, end_ms: int | None = None
    ) -> NDArray[np.int32]:
        """Ascending numbers of series that match, lie in the scope and have samples about the window."""
        with self._lock:
            size = len(self.labels)
            keep = np.ones(size, np.bool_)
            for matcher in matchers:
                keep &= self._mask(matcher, size)
            for matcher in principal.scope or ():
                keep &= self._present(matcher, size)
            if start_ms is not None:
                keep &= self.last[:size] >= start_ms
            if end_ms is not None:
                keep &= self.first[:size] <= end_ms
        return np.flatnonzero(keep).astype(np.int32)

    def _present(self, matcher: Matcher, size: int) -> NDArray[np.bool_]:
        """Series that have the label, with a value that matches."""
        matches = predicate(matcher)
        mask = np.zeros(size, np.bool_)
        values = self._postings.get(matcher.name, {})
        if matcher.op is MatchOp.EQUAL:
            mask[values.get(matcher.value, [])] = True
        else:
            for value, sids in values.items():
                if matches(value):
                    mask[sids] = True
        return mask

    def _mask(self, matcher: Matcher, size: int) -> NDArray[np.bool_]:
        if not predicate(matcher)(""):
            return self._present(matcher, size)
        mask = np.ones(size, np.bool_)
        matches = predicate(matcher)
        for value, sids in self._postings.get(matcher.name, {}).items():
            if not matches(value):
                mask[sids] = False
        return mask

    def names_of(self, sids: NDArray[np.int32]) -> set[str]:
        return {name for i in sids.tolist() for name, _ in self.labels[i]}

    def values_of(self, name: str, sids: NDArray[np.int32]) -> set[str]:
        if len(sids) == len(self.labels):
            with self._lock:
                return set(self._postings.get(name, {}))
        return {value for i in sids.tolist() for key, value in self.labels[i] if key == name}

    def metric_names(self, principal: Principal) -> set[str]:
        return self.values_of(METRIC_NAME, self.select((), principal))


def encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, replaced by ``?``."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def predicate(matcher: Matcher) -> Any:
    """A function from a value to whether it matches. Raises ``QueryError`` for a bad expression."""
    wanted = matcher.value
    if matcher.op is MatchOp.EQUAL:
        return lambda value: value == wanted
    if matcher.op is MatchOp.NOT_EQUAL:
        return lambda value: value != wanted
    pattern = compile_regex(wanted)
    if matcher.op is MatchOp.REGEX:
        return lambda value: pattern.fullmatch(value) is not None
    return lambda value: pattern.fullmatch(value) is None


@lru_cache(maxsize=512)
def compile_regex(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(text, options)
    except re2.error as error:
        detail = error.args[0] if error.args else error
        reason = detail.decode() if isinstance(detail, bytes) else str(detail)
        raise QueryError(f'error parsing regexp "{text}": {reason}') from error
