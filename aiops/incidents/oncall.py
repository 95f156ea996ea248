"""Who is on call now, from imported schedules that are read again and again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiops.core.errors import AiopsError
from aiops.core.incident import Shift
from aiops.core.ports import Clock, ScheduleSource, system_clock
from aiops.jobs.repeating import Repeating

log = logging.getLogger(__name__)

BACK_MS, AHEAD_MS = 3_600_000, 7 * 86_400_000
"""Shifts are read from an hour ago to a week ahead, so that a source may be away for days."""


@dataclass(frozen=True, slots=True)
class Duty:
    """Who is on call by a schedule; ``gap`` says in words why nobody is, or that it is not known."""

    people: frozenset[str] = frozenset()
    gap: str = ""


class OnCall:
    """Thread-safe.

    Args:
        schedules: sources by configured name.
    """

    def __init__(self, schedules: Mapping[str, ScheduleSource[Any]], clock: Clock = system_clock) -> None:
        self._sources = dict(schedules)
        self._clock = clock
        self._lock = threading.Lock()
        self._shifts: dict[str, tuple[int, tuple[Shift, ...]]] = {}
        self._errors: dict[str, str] = {}
        self._loops = [
            Repeating(partial(self._read, name, source), source.interval_s, f"oncall-{name}")
            for name, source in self._sources.items()
        ]

    def start(self) -> None:
        """Read each schedule at its interval, on a thread of its own, until :meth:`stop`."""
        for loop in self._loops:
            loop.start()

    def stop(self) -> None:
        for loop in self._loops:
            loop.stop()

    def read(self) -> None:
        """Read all schedules once, now."""
        for name, source in self._sources.items():
            self._read(name, source)

    def duty(self, schedule: str, now_ms: int) -> Duty:
        """Who is on call now by ``schedule``, from memory."""
        with self._lock:
            held, error = self._shifts.get(schedule), self._errors.get(schedule, "")
        if held is None:
            return Duty(gap=f"schedule '{schedule}' could not be read: {error or 'not read yet'}")
        read_ms, shifts = held
        people = frozenset(s.person for s in shifts if s.start_ms <= now_ms < s.end_ms)
        if people:
            return Duty(people)
        if now_ms - read_ms > AHEAD_MS:
            return Duty(gap=f"schedule '{schedule}' could not be read for a week: {error}")
        return Duty(gap=f"nobody is on call by schedule '{schedule}'")

    def busy(self, schedule: str, now_ms: int) -> bool:
        """Whether the schedule has an event now; false where that is not known."""
        return bool(self.duty(schedule, now_ms).people)

    def shifts(self, schedule: str) -> Sequence[Shift]:
        """What is known of it, by start."""
        with self._lock:
            return self._shifts.get(schedule, (0, ()))[1]

    def names(self) -> list[str]:
        return sorted(self._sources)

    def failing(self) -> dict[str, str]:
        """Schedules whose last reading failed, and why."""
        with self._lock:
            return dict(self._errors)

    def _read(self, name: str, source: ScheduleSource[Any]) -> None:
        now = self._clock()
        try:
            found = tuple(source.shifts(now - BACK_MS, now + AHEAD_MS))
        except AiopsError as error:
            with self._lock:
                fresh = name not in self._errors
                self._errors[name] = str(error)
            if fresh:
                log.warning("the schedule %s cannot be read: %s", name, error)
            return
        with self._lock:
            self._shifts[name] = (now, found)
            self._errors.pop(name, None)
