"""The clock of scheduled jobs: APScheduler in memory, rebuilt from our table at every start.

APScheduler's own cron reading is not used for weekdays (it counts from Monday, cron from Sunday) nor for
daylight saving (it fires twice when an hour is repeated), hence the care below.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger

from aiops.core.errors import AiopsError, InvalidInput
from aiops.core.job import Schedule
from aiops.core.ports import Clock, system_clock
from aiops.jobs.cron import DAYS, CronLine, parse_cron, parse_zone
from aiops.jobs.queue import JobQueue

MISFIRE_MS = 24 * 3_600_000
"""A run missed by less than this is made up for, once; an older one is dropped."""
RETRY_S = 10

log = logging.getLogger(__name__)


def next_run(cron: str, zone: str, after_ms: int) -> int | None:
    """The first time after ``after_ms`` (ms UTC) at which the line fires, or ``None`` if never.

    A wall-clock time that a spring change skips runs when the clock has moved on; one that an autumn change
    repeats runs once, unless the line fires every hour. A day of month and a weekday that are both given are
    alternatives, as in cron.

    Raises:
        InvalidInput: the line or the zone cannot be read.
    """
    line, where = parse_cron(cron), parse_zone(zone)
    if line.weekdays is None:
        choices = [(line.day, "*")]
    else:
        names = ",".join(DAYS[d] for d in line.weekdays)
        choices = [("*", names)] if line.day.startswith("*") else [(line.day, "*"), ("*", names)]
    found = [t for day, weekday in choices if (t := _next(line, day, weekday, where, after_ms)) is not None]
    return min(found, default=None)


def _next(line: CronLine, day: str, weekday: str, zone: ZoneInfo, after_ms: int) -> int | None:
    try:
        trigger = CronTrigger(
            minute=line.minute, hour=line.hour, day=day, month=line.month, day_of_week=weekday, timezone=zone
        )
    except ValueError as error:
        raise InvalidInput(f"'{line.text}' is not a cron line: {error}.") from error
    moment = datetime.fromtimestamp(after_ms / 1000, UTC) + timedelta(milliseconds=1)
    for _ in range(200):
        fire: datetime | None = trigger.get_next_fire_time(None, moment.astimezone(zone))
        if fire is None:
            return None
        fire_ms = int(fire.timestamp()) * 1000
        if fire_ms > after_ms and (line.every_hour or not _repeated(fire)):
            return fire_ms
        moment = max(fire.astimezone(UTC), moment) + timedelta(minutes=1)
    return None


def _repeated(fire: datetime) -> bool:
    """True where the clock showed this very time before, an hour ago."""
    return fire.fold == 1 and fire.replace(fold=0).astimezone(UTC) < fire.astimezone(UTC)


class JobClock:
    """Puts a job into the queue whenever a schedule falls due.

    ``start`` and ``stop`` are called once each; ``put`` and ``remove`` at any time. Several services over one
    database fire each run once, since the queue refuses a run that it has seen.
    """

    def __init__(self, queue: JobQueue, clock: Clock = system_clock) -> None:
        self._queue = queue
        self._clock = clock
        self._lock = threading.Lock()
        self._scheduler: BackgroundScheduler | None = None

    def start(self) -> None:
        """Arm all stored schedules; runs missed while the service was down are made up for once."""
        with self._lock:
            self._scheduler = BackgroundScheduler(
                timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
            )
            self._scheduler.start()
        for schedule in self._queue.schedules():
            self._arm(schedule)

    def stop(self) -> None:
        with self._lock:
            scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.shutdown(wait=True)

    def put(self, schedule: Schedule) -> Schedule:
        """Add or replace a schedule. An unchanged line keeps its next run.

        Raises:
            InvalidInput: its cron line or zone cannot be read.
        """
        old = self._queue.schedule(schedule.name)
        upcoming = next_run(schedule.cron, schedule.zone, self._clock())
        last = old.last_run_ms if old is not None else None
        if old is not None and (old.cron, old.zone) == (schedule.cron, schedule.zone):
            upcoming = old.next_run_ms
        stored = Schedule(
            schedule.name, schedule.cron, schedule.zone, schedule.kind, schedule.arguments, upcoming, last
        )
        self._queue.save_schedule(stored)
        self._arm(stored)
        return stored

    def keep_only(self, names: set[str]) -> None:
        """Drop stored schedules that are configured no more."""
        for schedule in self._queue.schedules():
            if schedule.name not in names:
                self.remove(schedule.name)

    def remove(self, name: str) -> None:
        self._queue.delete_schedule(name)
        with self._lock:
            if self._scheduler is not None and self._scheduler.get_job(name) is not None:
                self._scheduler.remove_job(name)

    def fire(self, name: str) -> Schedule | None:
        """Queue the schedule's run if it is due and note the next one; what the in-memory clock calls."""
        schedule = self._queue.schedule(name)
        now = self._clock()
        if schedule is None or schedule.next_run_ms is None or schedule.next_run_ms > now:
            return schedule
        due = schedule.next_run_ms
        if now - due <= MISFIRE_MS:
            self._queue.submit(
                schedule.kind,
                {**dict(schedule.arguments), "due_ms": str(due)},
                by=f"schedule:{name}",
                unique_key=f"{name}@{due}",
            )
        else:
            log.warning("schedule %s: the run of %d was missed by more than a day and is dropped", name, due)
        return self._queue.fired(name, due, next_run(schedule.cron, schedule.zone, now))

    def _arm(self, schedule: Schedule) -> None:
        if schedule.next_run_ms is None:
            return
        self._arm_at(schedule.name, datetime.fromtimestamp(schedule.next_run_ms / 1000, UTC))

    def _arm_at(self, name: str, moment: datetime) -> None:
        call: Callable[[str], None] = self._fire_and_rearm
        with self._lock:
            if self._scheduler is not None:
                self._scheduler.add_job(call, DateTrigger(moment, UTC), args=[name], id=name, replace_existing=True)

    def _fire_and_rearm(self, name: str) -> None:
        try:
            schedule = self.fire(name)
        except AiopsError as error:
            log.warning("schedule %s could not be fired: %s", name, error)
            self._arm_at(name, datetime.now(UTC) + timedelta(seconds=RETRY_S))
            return
        if schedule is not None:
            self._arm(schedule)
