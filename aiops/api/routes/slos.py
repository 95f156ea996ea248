"""Service-level objectives: error budgets and how fast they go."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from aiops.api.auth import Reader
from aiops.api.schemas import Number, Reply, Text
from aiops.api.services import Services, running


class BurnOut(Reply):
    window_s: int
    rate: Number = Field(description="1 uses the budget up exactly at the end of the period; null: no data")


class SloOut(Reply):
    name: str
    service: Text
    objective: float
    period_days: float
    bad_share: Number
    budget_left: Number = Field(description="1 untouched, 0 used up, below 0 broken; null: no data")
    burn: list[BurnOut]
    burning: str = Field(description="critical or warning while an alert's condition holds, else empty")


class SloList(Reply):
    slos: list[SloOut]


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/slos", tags=["incidents"])

    @routes.get("", response_model=SloList)
    def list_slos(caller: Reader) -> SloList:
        """Configured objectives, what is left of each error budget and how fast it goes."""
        found = running(services.objectives, "objectives").states(services.clock(), caller)
        return SloList(
            slos=[
                SloOut(
                    name=s.name, service=s.service, objective=s.objective, period_days=s.period_days,
                    bad_share=s.bad_share, budget_left=s.budget_left, burning=s.burning,
                    burn=[BurnOut(window_s=window, rate=rate) for window, rate in s.burn.items()],
                )
                for s in found
            ]
        )  # fmt: skip

    return routes
