"""Each call of a chat model told to a tracer, by LangChain's own callbacks: when, how long, how many tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiops.core.model import LlmCall
from aiops.core.ports import Clock, LlmTracer


def traced(
    model: Any,
    tracer: LlmTracer,
    clock: Clock,
    name: str,
    prompt: str,
    principal: str,
    price: Callable[[int, int], float],
) -> Any:
    """``model``, its calls recorded. Imports LangChain.

    Args:
        name: ``provider:model``.
        prompt: ``name@version``.
        price: USD of so many input and output tokens.
    """
    from langchain_core.callbacks import BaseCallbackHandler

    class Recorder(BaseCallbackHandler):
        def __init__(self) -> None:
            self._begun: dict[Any, tuple[int, str]] = {}

        def on_chat_model_start(
            self, serialized: Mapping[str, Any], messages: list[list[Any]], *, run_id: Any, **_: Any
        ) -> None:
            del serialized
            said = "\n".join(f"{m.type}: {m.content}" for batch in messages for m in batch) if tracer.contents else ""
            self._begun[run_id] = (clock(), said)

        def on_llm_end(self, response: Any, *, run_id: Any, **_: Any) -> None:
            replies = [g.message for batch in response.generations for g in batch if hasattr(g, "message")]
            tokens = [0, 0]
            for reply in replies:
                usage = getattr(reply, "usage_metadata", None) or {}
                tokens[0] += int(usage.get("input_tokens", 0))
                tokens[1] += int(usage.get("output_tokens", 0))
            said = "\n".join(f"{r.content} {r.tool_calls or ''}".strip() for r in replies) if tracer.contents else ""
            self._told(run_id, tokens, answered=said)

        def on_llm_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
            self._told(run_id, [0, 0], error=type(error).__name__)

        def _told(self, run_id: Any, tokens: list[int], *, error: str = "", answered: str = "") -> None:
            now = clock()
            begun, asked = self._begun.pop(run_id, (now, ""))
            tracer.record(
                LlmCall(
                    name, prompt, principal, begun, now, tokens[0], tokens[1], price(*tokens), error, asked, answered
                )
            )

    model.callbacks = [*(model.callbacks or []), Recorder()]
    return model
