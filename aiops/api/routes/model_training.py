"""Trainings on demand, and what models cost."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from aiops.api import views
from aiops.api.auth import Reader
from aiops.api.schemas_training import ModelBudgetOut, ModelCostList, ModelCostOut, TrainIn, TrainingList
from aiops.api.services import Services, running
from aiops.core.errors import Forbidden
from aiops.core.model import ModelAction
from aiops.core.principal import Principal
from aiops.models.training_jobs import TrainingJobs

DAY_MS = 86_400_000


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["models"])

    def trainings() -> TrainingJobs:
        return running(services.trainings, "training")

    def require(caller: Principal, name: str) -> None:
        try:
            services.model_access.require(caller, ModelAction.TRAIN, name)
        except Forbidden:
            services.audit.append(caller.name, "model.refused", name, {"action": ModelAction.TRAIN.value})
            raise

    @routes.post("/models/train", response_model=TrainingList, status_code=202)
    def train_all(body: TrainIn, caller: Reader) -> TrainingList:
        """Queue a training of every model that the caller may train; refused where that is none."""
        jobs = trainings()
        names = [n for n in jobs.models() if services.model_access.allowed(caller, ModelAction.TRAIN, n)]
        if not names:
            require(caller, "*")
        made = []
        for name in names:
            job = jobs.submit(name, body.reason, caller.name, as_challenger=body.as_challenger, warm=body.warm)
            services.audit.append(caller.name, "model.train", name, {"job": job.id})
            made.append(job)
        return TrainingList(jobs=[views.job(job) for job in made])

    @routes.post("/models/{name}/train", response_model=TrainingList, status_code=202)
    def train(name: str, body: TrainIn, caller: Reader) -> TrainingList:
        """Queue a training of one model; one of the same kind that waits already is given."""
        jobs = trainings()
        require(caller, name)
        job = jobs.submit(name, body.reason, caller.name, as_challenger=body.as_challenger, warm=body.warm)
        services.audit.append(caller.name, "model.train", name, {"job": job.id})
        return TrainingList(jobs=[views.job(job)])

    @routes.get("/trainings", response_model=TrainingList)
    def list_trainings(caller: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> TrainingList:
        """Trainings of models that the caller may use, the newest first, with their progress."""
        found = running(services.jobs, "job queue").list(kind="train", limit=limit)
        seen = [
            job
            for job in found
            if services.model_access.allowed(caller, ModelAction.USE, dict(job.arguments).get("model", ""))
        ]
        return TrainingList(jobs=[views.job(job) for job in seen])

    @routes.get("/model-costs", response_model=ModelCostList)
    def costs(
        caller: Reader,
        start_ms: Annotated[int | None, Query(ge=0)] = None,
        end_ms: Annotated[int | None, Query(ge=0)] = None,
        by: Literal["model", "team", "principal", "version"] = "model",
    ) -> ModelCostList:
        """What models cost, by default in the last 7 days and today, and the budgets of today."""
        meter = running(services.meter, "ledger of models")
        end = services.clock() + 1 if end_ms is None else end_ms
        start = (end // DAY_MS - 7) * DAY_MS if start_ms is None else start_ms
        sums: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for use in meter.uses(start, end):
            if services.model_access.allowed(caller, ModelAction.USE, use.model):
                found = sums[str(getattr(use, by)), use.kind.value, use.unit]
                found[0] += use.cost
                found[1] += use.quantity
        rows = sorted(sums.items(), key=lambda row: -row[1][0])
        return ModelCostList(
            start_ms=start,
            end_ms=end,
            currency="USD",
            costs=[
                ModelCostOut(group=group, kind=kind, cost=cost, quantity=quantity, unit=unit)
                for (group, kind, unit), (cost, quantity) in rows
            ],
            budgets=[
                ModelBudgetOut(name=one.name, state=one.state, spent=one.spent, per_day=one.budget.per_day)
                for one in meter.budgets()
            ],
        )

    return routes
