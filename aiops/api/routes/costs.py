"""Costs: summary, forecast, anomalies, budgets, import of FOCUS files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from aiops.api import views
from aiops.api.auth import Reader, Writer
from aiops.api.schemas_operations import BudgetList, CostAnomalyList, CostSummaryOut, ForecastOut, ImportOut
from aiops.api.services import Services, running
from aiops.core.errors import InvalidInput
from aiops.cost.service import CostService

DAY_MS = 86_400_000
Start = Annotated[int | None, Query(ge=0, description="ms UTC, inclusive")]
End = Annotated[int | None, Query(ge=0, description="ms UTC, exclusive; default is now")]
Groups = Annotated[list[str], Query(max_length=4, description="FOCUS columns")]
Where = Annotated[list[str], Query(max_length=10, description="FOCUS column=value; all must hold")]


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/costs", tags=["costs"])

    def costs() -> CostService:
        return running(services.cost, "cost service")

    def window(start_ms: int | None, end_ms: int | None, days: int) -> tuple[int, int]:
        end = services.clock() if end_ms is None else end_ms
        return (end // DAY_MS * DAY_MS - days * DAY_MS if start_ms is None else start_ms), end

    @routes.get("/summary", response_model=CostSummaryOut)
    def summary(
        caller: Reader,
        start_ms: Start = None,
        end_ms: End = None,
        group_by: Groups = ["ServiceName"],  # noqa: B006 - FastAPI copies it
        where: Where = [],  # noqa: B006
    ) -> CostSummaryOut:
        """Daily EffectiveCost per group, the largest first; by default of the last 7 days by service."""
        start, end = window(start_ms, end_ms, 7)
        found = costs().summary(start, end, group_by, caller, conditions(where))
        return views.cost_summary(found, start, end)

    @routes.get("/forecast", response_model=ForecastOut)
    def forecast(caller: Reader, where: Where = []) -> ForecastOut:  # noqa: B006
        """What this UTC month will cost, with a 90 % interval."""
        return views.forecast(costs().forecast(caller, None, conditions(where)))

    @routes.get("/anomalies", response_model=CostAnomalyList)
    def anomalies(
        caller: Reader,
        start_ms: Start = None,
        end_ms: End = None,
        group_by: Groups = ["ServiceName"],  # noqa: B006
        where: Where = [],  # noqa: B006
    ) -> CostAnomalyList:
        """Episodes whose cost departs from its own past, by default of the last 30 days."""
        start, end = window(start_ms, end_ms, 30)
        found = costs().anomalies(start, end, caller, group_by, conditions(where))
        return CostAnomalyList(anomalies=[views.cost_anomaly(a) for a in found])

    @routes.get("/budgets", response_model=BudgetList)
    def budgets(caller: Reader) -> BudgetList:
        """Every configured budget against this month."""
        return BudgetList(budgets=[views.budget(b) for b in costs().budgets(caller)])

    @routes.post("/import", response_model=ImportOut)
    async def import_file(
        request: Request, caller: Writer, name: Annotated[str, Query(min_length=1, max_length=255)]
    ) -> ImportOut:
        """Take a FOCUS CSV or Parquet file as the body; it replaces the billing periods that it holds."""
        load = running(services.import_costs, "cost import")
        content = await request.body()
        if not content:
            raise InvalidInput("The file is empty.")
        rows = await run_in_threadpool(load, name, content)
        detail = {"name": name, "rows": str(rows)}
        await run_in_threadpool(services.audit.append, caller.name, "costs.import", "costs", detail)
        return ImportOut(rows=rows)

    return routes


def conditions(where: list[str]) -> tuple[tuple[str, str], ...]:
    """``Column=value`` texts as pairs."""
    pairs = []
    for text in where:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise InvalidInput(f"'{text[:100]}' is not Column=value.", hint="Example: where=RegionId=eu-west-1")
        pairs.append((column, value))
    return tuple(pairs)
