"""Sixty days of simulated cloud costs in FOCUS columns, with one day that stands out."""

from __future__ import annotations

import numpy as np

from aiops.core.cost import CostTable

DAYS = 60
ANOMALY_DAYS_AGO = 9
ANOMALY_SERVICE = "Data Transfer"
_DAY_MS = 86_400_000
_SERVICES = (
    ("Virtual Machines", "Compute", 118.0, "vCPU-Hours"),
    ("Managed PostgreSQL", "Databases", 64.0, "Hours"),
    ("Object Storage", "Storage", 21.0, "GB-Months"),
    ("Data Transfer", "Networking", 17.0, "GB"),
    ("Managed Kubernetes", "Compute", 29.0, "Hours"),
    ("LLM Tokens", "AI and Machine Learning", 9.0, "Tokens"),
)
_ACCOUNTS = (("100001", "shop-production", 1.0), ("100002", "shop-staging", 0.22), ("100003", "data-platform", 0.41))


def shop_costs(seed: int, now_ms: int) -> CostTable:
    """One row per day, service and account for the :data:`DAYS` days before today, money in USD."""
    rng = np.random.default_rng([seed, 17])
    today = now_ms // _DAY_MS
    days = np.arange(today - DAYS, today, dtype=np.int64)
    weekend = np.isin((days + 3) % 7, (5, 6))
    rows: dict[str, list[object]] = {}

    def add(**values: object) -> None:
        for name, value in values.items():
            rows.setdefault(name, []).append(value)

    months = (days * _DAY_MS).astype("datetime64[ms]").astype("datetime64[M]")
    for service, category, per_day, unit in _SERVICES:
        for account, name, share in _ACCOUNTS:
            trend = 1.0 + 0.0012 * np.arange(DAYS)
            amounts = per_day * share * trend * np.where(weekend, 0.86, 1.0) * (1.0 + 0.025 * rng.standard_normal(DAYS))
            if service == ANOMALY_SERVICE and account == "100001":
                amounts[DAYS - ANOMALY_DAYS_AGO] *= 7.5
            for k, day in enumerate(days.tolist()):
                cost = round(float(max(amounts[k], 0.0)), 4)
                add(
                    BillingAccountId="shop", BillingAccountName="Simulated Shop", BillingCurrency="USD",
                    BillingPeriodStart=int(months[k].astype("datetime64[ms]").astype(np.int64)),
                    BillingPeriodEnd=int((months[k] + 1).astype("datetime64[ms]").astype(np.int64)),
                    ChargePeriodStart=day * _DAY_MS, ChargePeriodEnd=(day + 1) * _DAY_MS,
                    ChargeCategory="Usage", ChargeClass="", ChargeDescription=f"{service} (simulated)",
                    ServiceName=service, ServiceCategory=category, ServiceSubcategory="",
                    ServiceProviderName="Simulated Cloud", SubAccountId=account, SubAccountName=name,
                    RegionId="sim-west-1", ResourceId=f"{name}/{service.lower().replace(' ', '-')}",
                    ResourceName=service.lower().replace(" ", "-"), ResourceType=category,
                    SkuId=f"sim-{service.lower().replace(' ', '-')}",
                    ConsumedQuantity=round(cost * 8.0, 4), ConsumedUnit=unit,
                    ListCost=round(cost * 1.12, 4), ContractedCost=cost, BilledCost=cost, EffectiveCost=cost,
                    Tags='{"simulated":"true"}', x_simulated="true",
                )  # fmt: skip
    return CostTable("simulated", {name: _column(values) for name, values in rows.items()})


def _column(values: list[object]) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    first = values[0]
    if isinstance(first, str):
        return np.array(values, dtype=object)
    return np.array(values, dtype=np.int64 if isinstance(first, int) else np.float64)
