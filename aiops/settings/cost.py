"""Costs, budgets and reports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aiops.settings.section import Section


class BudgetSettings(Section):
    amount: float = Field(gt=0)
    currency: str = "USD"
    where: dict[str, str] = Field(default_factory=dict)


class CostSettings(Section):
    budgets: dict[str, BudgetSettings] = Field(default_factory=dict)
    scope_columns: dict[str, str] = Field(default_factory=dict)
    """Label name of a scope to the FOCUS column that it restricts."""
    monthly_variation: float = 0.12


class ReportSettings(Section):
    """A scheduled report: five-field cron in an IANA zone, delivered to a folder, e-mail, or Slack channel."""

    kind: Literal["cost"] = "cost"
    cron: str = "0 8 * * 1"
    zone: str = "UTC"
    to_file: str = ""
    to_email: tuple[str, ...] = ()
    to_slack: str = ""
