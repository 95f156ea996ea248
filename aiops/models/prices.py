"""What a second of a processor and a token of an LLM cost, USD."""

from __future__ import annotations

import functools
import logging

from aiops.settings.models import ModelCostSettings

UNKNOWN_TOKEN = (2.0e-6, 8.0e-6)
"""USD per token of an LLM without a known price, in and out, so that its calls are capped too."""
HOUR_S = 3600.0

log = logging.getLogger(__name__)


class Prices:
    """By the settings; an LLM that they do not price has its published price, by ``genai-prices``."""

    def __init__(self, settings: ModelCostSettings) -> None:
        self._settings = settings

    def cpu(self, seconds: float) -> float:
        """Of seconds of one processor core."""
        return seconds / HOUR_S * self._settings.cpu_hour

    def gpu(self, name: str, seconds: float) -> float:
        """Of seconds of a GPU that calls itself ``name``."""
        for key, price in self._settings.gpu_hours.items():
            if key != "other" and key.lower() in name.lower():
                return seconds / HOUR_S * price
        return seconds / HOUR_S * self._settings.gpu_hours.get("other", 0.0)

    def llm(self, model: str, tokens_in: float, tokens_out: float) -> float:
        """Of a call of ``model``, as ``provider:model``."""
        own = self._settings.llm_prices.get(model)
        if own is not None:
            return (tokens_in * own.input + tokens_out * own.output) / 1e6
        a, b = _published(model)
        return tokens_in * a + tokens_out * b


@functools.lru_cache(maxsize=64)
def _published(model: str) -> tuple[float, float]:
    """USD per token in and out at a small call's size."""
    try:
        import genai_prices
    except ImportError:
        return UNKNOWN_TOKEN
    provider, _, name = model.partition(":")
    try:
        each = [
            float(genai_prices.calc_price(usage, name, provider_id=provider).total_price) / 1000
            for usage in (genai_prices.Usage(input_tokens=1000), genai_prices.Usage(output_tokens=1000))
        ]
    except LookupError:
        log.warning("no price is known for %s; 2 and 8 USD per million tokens are reckoned with", model)
        return UNKNOWN_TOKEN
    return each[0], each[1]
