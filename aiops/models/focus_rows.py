"""What models cost as rows of the cost table: FOCUS columns, our own with ``x_``; one row an hour of each kind of use.

FOCUS has no columns for models and tokens yet; drafts put them beside the charge, so they are ``x_Model``,
``x_ModelVersion``, ``x_TokensIn`` and ``x_TokensOut``. ``EffectiveCost`` is an estimate by our prices, ``BilledCost``
is 0: the bill itself comes from whoever sells the machine or the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import orjson
from numpy.typing import NDArray

from aiops.core.cost import CostTable
from aiops.core.model import ModelUse, UseKind
from aiops.store.state.model_uses import merged

SOURCE = SERVICE = "aiops"
HOUR_MS = 3_600_000
CATEGORY = "AI and Machine Learning"
_SUBCATEGORY = {UseKind.LLM: "Generative AI"}
_WORDS = {
    UseKind.TRAIN: "Training",
    UseKind.SCORE: "Scoring",
    UseKind.BATCH: "Batch scoring",
    UseKind.LLM: "LLM calls",
    UseKind.EXPORT: "Export",
}


def table_of(uses: Sequence[ModelUse], currency: str, rate: float) -> CostTable:
    """The rows of uses, whose billing periods they fill; ``rate`` is what one USD is in ``currency``."""
    hours: dict[tuple[object, ...], ModelUse] = {}
    for use in uses:
        hour = use.time_ms // HOUR_MS
        key = (hour, use.model, use.version, use.kind, use.principal, use.team, use.unit)
        one = ModelUse(
            use.model, use.version, use.kind, use.principal, hour * HOUR_MS, use.quantity, use.unit, use.cost, use.team,
            tuple((k, v) for k, v in use.detail if k in ("input_tokens", "output_tokens")),
        )  # fmt: skip
        hours[key] = merged(hours[key], one) if key in hours else one
    rows = list(hours.values())
    start = np.array([use.time_ms for use in rows], np.int64)
    month = np.array([month_of(use.time_ms) for use in rows], np.int64)
    cost = np.array([use.cost * rate for use in rows], np.float64)
    details = [dict(use.detail) for use in rows]
    tags = [{k: v for k, v in (("team", use.team), ("principal", use.principal)) if v} for use in rows]
    return CostTable(
        SOURCE,
        {
            "BillingAccountId": _same(SERVICE, rows),
            "BillingAccountName": _same("aiops", rows),
            "BillingCurrency": _same(currency, rows),
            "BillingPeriodStart": month,
            "BillingPeriodEnd": np.array([next_month(int(m)) for m in month], np.int64),
            "ChargePeriodStart": start,
            "ChargePeriodEnd": start + HOUR_MS,
            "ChargeCategory": _same("Usage", rows),
            "ChargeDescription": _text([f"{_WORDS[use.kind]} of {use.model}" for use in rows]),
            "ServiceName": _same(SERVICE, rows),
            "ServiceCategory": _same(CATEGORY, rows),
            "ServiceSubcategory": _text([_SUBCATEGORY.get(use.kind, "Machine Learning") for use in rows]),
            "ServiceProviderName": _same(SERVICE, rows),
            "SubAccountId": _text([use.team for use in rows]),
            "SubAccountName": _text([use.team for use in rows]),
            "ResourceId": _text(["/".join(filter(None, (use.model, use.version))) for use in rows]),
            "ResourceName": _text([use.model for use in rows]),
            "ResourceType": _same("model", rows),
            "SkuId": _text([use.kind.value for use in rows]),
            "ConsumedQuantity": np.array([use.quantity for use in rows], np.float64),
            "ConsumedUnit": _text([use.unit for use in rows]),
            "ListCost": cost,
            "ContractedCost": cost,
            "BilledCost": np.zeros(len(rows)),
            "EffectiveCost": cost,
            "Tags": _text([orjson.dumps(one).decode() for one in tags]),
            "x_Model": _text([use.model for use in rows]),
            "x_ModelVersion": _text([use.version for use in rows]),
            "x_UseKind": _text([use.kind.value for use in rows]),
            "x_Principal": _text([use.principal for use in rows]),
            "x_TokensIn": _text([one.get("input_tokens", "") for one in details]),
            "x_TokensOut": _text([one.get("output_tokens", "") for one in details]),
        },
    )


def month_of(time_ms: int) -> int:
    """Start of the UTC month, ms."""
    day = datetime.fromtimestamp(time_ms / 1000, UTC)
    return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * 1000


def next_month(month_ms: int) -> int:
    """Start of the month after."""
    return month_of(month_ms + 32 * 86_400_000)


def _same(text: str, rows: Sequence[ModelUse]) -> NDArray[np.object_]:
    return np.full(len(rows), text, object)


def _text(values: Sequence[str]) -> NDArray[np.object_]:
    out = np.empty(len(values), object)
    out[:] = values
    return out
