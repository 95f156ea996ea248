"""Calls of chat models as a tracer sees them."""

from __future__ import annotations

from typing import Any

import pytest

from aiops.agent.llm_tracing import traced
from aiops.core.model import LlmCall

pytest.importorskip("langchain_core")


class Tracer:
    def __init__(self, contents: bool) -> None:
        self.contents = contents
        self.calls: list[LlmCall] = []

    def record(self, call: LlmCall) -> None:
        self.calls.append(call)


def model(answers: list[Any]) -> Any:
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    return GenericFakeChatModel(messages=iter(answers))


def reply() -> Any:
    from langchain_core.messages import AIMessage

    usage = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}
    return AIMessage("the answer", usage_metadata=usage)


@pytest.mark.parametrize("contents", [False, True])
def test_each_call_is_told_with_times_tokens_and_money(contents: bool) -> None:
    tracer, times = Tracer(contents), iter((100, 350, 400, 900))
    told = ("openai:gpt-5-mini", "plan_question@3", "key:1", lambda a, b: a * 0.5 + b)
    chat = traced(model([reply(), reply()]), tracer, lambda: next(times), *told)
    chat.invoke("the question")
    chat.invoke("another")
    first, second = tracer.calls
    assert (first.start_ms, first.end_ms, second.start_ms, second.end_ms) == (100, 350, 400, 900)
    assert (first.model, first.prompt, first.principal) == ("openai:gpt-5-mini", "plan_question@3", "key:1")
    assert (first.input_tokens, first.output_tokens, first.cost) == (11, 3, 8.5)
    assert (first.asked, first.answered) == (("human: the question", "the answer") if contents else ("", ""))
    assert first.error == ""


def test_a_call_that_fails_is_told_without_the_provider_s_words() -> None:
    tracer = Tracer(contents=False)
    chat = traced(model([]), tracer, lambda: 7, "p:m", "p@1", "key:1", lambda a, b: 0.0)
    with pytest.raises(Exception):  # noqa: B017  (whatever the fake raises when it has no answer left)
        chat.invoke("secret")
    (call,) = tracer.calls
    assert call.error
    assert "secret" not in repr(call)
