"""Named groups of series, each with a model of its own; what no group takes shares the model of its step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from aiops.core.anomaly import State
from aiops.core.errors import ConfigError, InvalidInput
from aiops.incidents.matchers import hold, parse_matchers
from aiops.incidents.readings import series_of
from aiops.incidents.watch import WatchEntry
from aiops.settings import TrainingGroupSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
MOST_KNOWN = 500_000


class SeriesGroups:
    """Which group a series is in.

    Raises:
        ConfigError: a name or a matcher that cannot be read.
    """

    def __init__(self, named: Mapping[str, TrainingGroupSettings]) -> None:
        self._groups = []
        for name, group in named.items():
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"models.training.groups: '{name}' is not the name of a group.",
                    hint="Use small letters, digits and hyphens.",
                )
            try:
                matchers = parse_matchers(group.match)
            except InvalidInput as error:
                raise ConfigError(f"models.training.groups.{name}: {error}") from error
            self._groups.append((name, matchers, group.watch))
        self._known: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The named groups, and the rest as an empty name."""
        return (*(name for name, _, _ in self._groups), "")

    def of(self, series_id: str) -> str:
        """The first group that takes a series; empty for the rest."""
        if not self._groups:
            return ""
        found = self._known.get(series_id)
        if found is None:
            entry, labels = series_of(series_id)
            own = dict(labels)
            found = next(
                (
                    name
                    for name, matchers, watch in self._groups
                    if any(fnmatchcase(entry, pattern) for pattern in watch) and hold(matchers, own)
                ),
                "",
            )
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            self._known[series_id] = found
        return found

    def entries(self, name: str, entries: Sequence[WatchEntry]) -> tuple[WatchEntry, ...]:
        """The entries that may have series in a group."""
        patterns = next((watch for own, _, watch in self._groups if own == name), ("*",))
        return tuple(e for e in entries if any(fnmatchcase(e.name, pattern) for pattern in patterns))

    def part(self, name: str, state: State) -> State:
        """The series of a state that are in the group; others were, before the settings changed."""
        ids = [key for key in state.series_ids if self.of(key) == name]
        return state if len(ids) == len(state.series_ids) else state.select(ids)
