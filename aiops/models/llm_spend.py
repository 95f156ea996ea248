"""Money of LLM calls, in the one ledger of the model layer."""

from __future__ import annotations

from collections.abc import Mapping

from aiops.core.model import ModelUse, UseKind
from aiops.core.ports import Clock, ModelMeter, system_clock

ASSISTANT = "system:assistant"


class LlmSpend:
    """Implements ``core.ports.BudgetGuard`` and ``UsageLedger``; the subject is ``provider:model``."""

    def __init__(self, meter: ModelMeter, clock: Clock = system_clock) -> None:
        self._meter = meter
        self._clock = clock

    def check(self, subject: str, expected_cost: float, principal: str = "") -> None:
        """Raises ``LimitExceeded`` (budget) before the call is made."""
        self._meter.check(subject, UseKind.LLM, principal or ASSISTANT, expected_cost)

    def record(self, subject: str, cost: float, details: Mapping[str, str]) -> None:
        """Book what a call cost, USD. ``details`` may name principal, prompt, input_tokens and output_tokens."""
        tokens = sum(int(details.get(name, "0")) for name in ("input_tokens", "output_tokens"))
        self._meter.record(
            ModelUse(
                model=subject,
                version=details.get("prompt", ""),
                kind=UseKind.LLM,
                principal=details.get("principal", "") or ASSISTANT,
                time_ms=self._clock(),
                quantity=float(tokens),
                unit="tokens",
                cost=cost,
                detail=tuple(sorted((k, v) for k, v in details.items() if k not in ("principal", "model"))),
            )
        )
