"""Requests and responses about trainings and what models cost."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from aiops.api.schemas import Number, Reply, Text
from aiops.api.schemas_operations import JobOut


class TrainIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500)
    as_challenger: bool = False
    """The result never becomes champion by itself."""
    warm: bool = False
    """Series that the champion knows keep their calibration, while that is young."""


class TrainingList(Reply):
    jobs: list[JobOut]


class ModelCostOut(Reply):
    """One group's sum. ``quantity`` counts ``unit``: cpu-seconds, points, tokens."""

    group: Text
    kind: str
    cost: Number
    quantity: Number
    unit: Text


class ModelBudgetOut(Reply):
    """A budget of a UTC day; ``state`` is ``ok``, ``at_risk`` or ``used_up``."""

    name: Text
    state: str
    spent: Number
    per_day: Number


class ModelCostList(Reply):
    """``currency`` is USD: the cost table may hold the same in another one."""

    start_ms: int
    end_ms: int
    currency: str
    costs: list[ModelCostOut]
    budgets: list[ModelBudgetOut]
