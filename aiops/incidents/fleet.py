"""Everything that is watched: the groups of series, one a step, and what they share."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from aiops.core.errors import AiopsError, QueryError
from aiops.core.ports import Clock, MetricQuerier
from aiops.core.series import Labels
from aiops.core.watching import Discover
from aiops.incidents.episodes import Narrow
from aiops.incidents.found_entries import FoundEntries
from aiops.incidents.ledger import Ledger
from aiops.incidents.measures import measure_entries
from aiops.incidents.memory import Memory
from aiops.incidents.presence import targets_up
from aiops.incidents.readings import Reader, Readings
from aiops.incidents.series_groups import SeriesGroups
from aiops.incidents.thresholds import Policy
from aiops.incidents.watch import WatchEntry, rule_entries
from aiops.incidents.watched import WatchedGroup
from aiops.models.serving import Scorer
from aiops.models.training import Progress, silent

log = logging.getLogger(__name__)

MOST_SHARED = 240
"""Steps of a reading that the groups of one step share."""

LOOK_MS = 600_000
"""How often it is asked what the source has that is worth watching."""


def watched_groups(
    entries: Sequence[WatchEntry],
    named: SeriesGroups,
    policy: Policy,
    ledger: Ledger,
    narrow: Narrow | None,
    *,
    follows_rules: bool,
) -> list[WatchedGroup]:
    """A group for each step and each named group of series, and one for the rest of each step."""
    return [
        WatchedGroup(
            step,
            named.entries(name, [entry for entry in entries if entry.step_ms == step]),
            policy,
            ledger,
            narrow,
            follows_rules=follows_rules,
            name=name,
        )
        for step in sorted({entry.step_ms for entry in entries})
        for name in named.names
    ]


class Fleet:
    """The watched groups, how their source is read, and the budget that they share.

    Attributes:
        groups: in the order of their steps; each is guarded by ``stepping``.
        ledger: false alarms spent over all groups.
        refused: entries that the source would not answer, and why.
        stepping: held over whole steps, reading included; a status needs no lock, so that a slow source does not
            hide it.
        named: the groups of series that have a model of their own.
        training: held over a training, a look for new series and a change of champion, which exclude each other.
    """

    def __init__(
        self,
        groups: Sequence[WatchedGroup],
        ledger: Ledger,
        memory: Memory,
        scorer: Scorer,
        querier: MetricQuerier,
        max_series: int,
        clock: Clock,
        lag_ms: int | None = None,
        discover: Discover | None = None,
        found: FoundEntries | None = None,
        most_found: int = 0,
        named: SeriesGroups | None = None,
    ) -> None:
        self.groups = tuple(groups)
        self.ledger = ledger
        self.memory = memory
        self.scorer = scorer
        self.reader = Reader(querier)
        self.refused: dict[str, str] = {}
        self.stepping = threading.RLock()
        self.training = threading.Lock()
        self._max_series = max_series
        self._clock = clock
        self._lag_ms = lag_ms
        self._discover, self._found, self._most_found = discover, found, most_found
        self._found_ms: dict[str, int] = {}
        self.named = named or SeriesGroups({})
        self._lately: tuple[tuple[int, int, int], dict[str, Readings]] = ((0, 0, 0), {})
        for group in self.groups:
            group.target = self._target

    @property
    def watched(self) -> int:
        return sum(len(group.series) for group in self.groups)

    @property
    def trained(self) -> bool:
        """True once at least one series is scored."""
        return any(group.judge is not None for group in self.groups)

    def reference(self, group: WatchedGroup) -> str:
        """The version that serves a group; empty where none does."""
        served = self.scorer.served(group.model)
        return served.reference if served else ""

    def beside(self, apart: WatchedGroup) -> int:
        """Series watched in the other groups."""
        return sum(len(group.series) for group in self.groups if group is not apart)

    def now(self) -> int:
        return self._clock()

    def lag(self, group: WatchedGroup) -> int:
        """How long after a step's close late samples are waited for, in ms."""
        return min(group.step_ms // 4, 5000) if self._lag_ms is None else self._lag_ms

    def closed(self, group: WatchedGroup, now_ms: int) -> int:
        """The last step of the group that is over."""
        return (now_ms - self.lag(group)) // group.step_ms * group.step_ms

    def room(self, group: WatchedGroup) -> int:
        """How many series may still join the group."""
        return self._max_series - len(group.series)

    def read(
        self,
        group: WatchedGroup,
        entries: Sequence[WatchEntry],
        start_ms: int,
        end_ms: int,
        progress: Progress = silent,
    ) -> Readings:
        """The entries' series; an entry that the source refuses is left out and shown in the status.

        Raises:
            TransientError, Forbidden: the source cannot be read.
        """
        out = self.reader.read((), start_ms, end_ms, group.step_ms, 0)
        for number, entry in enumerate(entries):
            progress(number / len(entries), f"reading {entry.metric}")
            room = self._max_series - len(out.rows)
            try:
                out.rows |= self._read(entry, start_ms, end_ms, group.step_ms, room).rows
                self.refused.pop(entry.name, None)
            except QueryError as error:
                if entry.name not in self.refused:
                    log.warning("the watched query %s is refused: %s", entry.name, error)
                self.refused[entry.name] = str(error)
        if len(self.named.names) > 1:
            out.rows = {key: row for key, row in out.rows.items() if self.named.of(key) == group.name}
        return out

    def _read(self, entry: WatchEntry, start_ms: int, end_ms: int, step_ms: int, room: int) -> Readings:
        """One entry; the groups of a step share what is read of its latest steps."""
        if len(self.named.names) == 1 or (end_ms - start_ms) // step_ms > MOST_SHARED:
            return self.reader.read((entry,), start_ms, end_ms, step_ms, room)
        with self.stepping:
            place = (start_ms, end_ms, step_ms)
            if self._lately[0] != place:
                self._lately = (place, {})
            found = self._lately[1].get(entry.name)
            if found is None:
                found = self.reader.read((entry,), start_ms, end_ms, step_ms, self._max_series)
                self._lately[1][entry.name] = found
            return found

    def look_for_more(self, group: WatchedGroup, now_ms: int) -> None:
        """Watch the recording rules whose results the source has now and, once in a while, what else is found in it.

        Raises:
            TransientError: the source cannot be read.
        """
        if not group.follows_rules:
            return
        known = {entry.name for entry in group.entries}
        recorded = rule_entries(self.reader.recorded(now_ms), group.step_ms)
        fresh = tuple(entry for entry in recorded if entry.name not in known)
        if self._discover is not None and now_ms - self._found_ms.get(group.model, -LOOK_MS) >= LOOK_MS:
            kept = sum(entry.found for entry in group.entries)
            measures, all_known = self._discover(), (*group.entries, *fresh)
            fresh += measure_entries(measures, all_known, group.step_ms, self._most_found - kept)
            self._found_ms[group.model] = now_ms
        if fresh:
            with self.stepping:
                group.entries += fresh
            if self._found is not None:
                self._found.save(group.model, [entry for entry in group.entries if entry.found])

    def recall(self, group: WatchedGroup) -> None:
        """Know again what an earlier process found in the source."""
        if group.follows_rules and self._found is not None:
            known = {entry.name for entry in group.entries}
            group.entries += tuple(e for e in self._found.load(group.model) if e.name not in known)

    def share_budget(self) -> None:
        """Give each group its part of what is left of the false alarms of the day."""
        with self.stepping:
            for group in self.groups:
                if group.judge is not None:
                    group.judge.set_rate(self.ledger.rate(group.step_ms, self.watched, self._clock()))

    def _target(self, labels: Labels) -> bool | None:
        """Whether the targets behind a series are up, by the source's ``up``; ``None`` where it does not say."""
        try:
            return targets_up(self.reader.now("up", self._clock()))(labels)
        except (AiopsError, ValueError):
            return None
