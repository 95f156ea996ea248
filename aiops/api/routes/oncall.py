"""Who is on call."""

from __future__ import annotations

from fastapi import APIRouter

from aiops.api.auth import Reader
from aiops.api.schemas import Reply, Text
from aiops.api.services import Services, running


class ShiftOut(Reply):
    person: Text
    start_ms: int
    end_ms: int


class ScheduleOut(Reply):
    name: str
    people: list[Text]
    gap: Text
    shifts: list[ShiftOut]


class ScheduleList(Reply):
    schedules: list[ScheduleOut]


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/oncall", tags=["incidents"])

    @routes.get("", response_model=ScheduleList)
    def list_schedules(_caller: Reader) -> ScheduleList:
        """Imported schedules: who is on call now, why nobody is, and the shifts to come."""
        found, now = running(services.oncall, "incident engine"), services.clock()
        schedules = []
        for name in found.names():
            duty = found.duty(name, now)
            coming = [
                ShiftOut(person=s.person, start_ms=s.start_ms, end_ms=s.end_ms)
                for s in found.shifts(name)
                if s.end_ms > now
            ]
            schedules.append(ScheduleOut(name=name, people=sorted(duty.people), gap=duty.gap, shifts=coming[:200]))
        return ScheduleList(schedules=schedules)

    return routes
