"""Every chat-model provider against a loopback server of its protocol: the planner over it, and its failures."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

from aiops.agent.assistant import Assistant
from aiops.agent.catalogue import Catalogues
from aiops.agent.executor import Executor
from aiops.agent.limits import QuestionLimits
from aiops.agent.planner_llm import LlmPlanner
from aiops.core.errors import ConfigError
from aiops.core.plugins import build, discover
from aiops.core.ports import ChatModelProvider, PluginContext
from aiops.core.principal import LOCAL
from aiops.core.query import Question
from tests.contract.chat_completions import says, tool_call
from tests.contract.llm_protocols import KEY, PROTOCOLS, ProtocolServer
from tests.contract.test_llm import AVAIL, DISK, GOOD, NOW, Ledger, querier

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::pydantic.warnings.PydanticDeprecatedSince20"
)


pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """Clients of providers cannot be closed: their sockets go here, where nobody minds, and not in another test."""
    yield
    gc.collect()


def made(name: str, url: str, timeout_s: float = 10.0) -> ChatModelProvider[Any]:
    options = {**PROTOCOLS[name].options(url), "timeout_s": timeout_s}
    provider = build("connectors.llm", name, options, PluginContext(name))
    assert isinstance(provider, ChatModelProvider)
    return provider


def asked(name: str, script: Any, timeout_s: float = 10.0) -> tuple[Any, ProtocolServer, Ledger]:
    server, ledger = ProtocolServer(PROTOCOLS[name], script), Ledger()
    with server.running():
        metrics = querier()
        executor = Executor(metrics)
        limits = QuestionLimits(llm_seconds=20.0)
        provider = made(name, server.url.removesuffix("/v1"), timeout_s)
        planner = LlmPlanner(provider, name, PROTOCOLS[name].model, executor, ledger=ledger, limits=limits)
        assistant = Assistant(Catalogues(metrics, lambda: NOW), executor, llm=planner, clock=lambda: NOW)
        try:
            return assistant.ask(Question(DISK, LOCAL, NOW)), server, ledger
        finally:
            executor.close()
            planner.close()


def test_every_provider_has_its_protocol_here() -> None:
    assert set(discover("connectors.llm")) == set(PROTOCOLS)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_provider_looks_up_plans_and_is_priced(name: str) -> None:
    def script(number: int, body: dict[str, Any]) -> Any:
        if number == 0:
            return tool_call("find_metrics", {"words": "disk space"})
        return tool_call("Plan", GOOD, "call_2")

    answer, server, ledger = asked(name, script)
    assert answer.planner == f"{name}:{PROTOCOLS[name].model}"
    assert "5 %" in answer.text
    assert server.paths == [PROTOCOLS[name].path] * 2
    assert AVAIL in json.dumps(server.requests[1])
    assert [row[2]["input_tokens"] for row in ledger.rows] == ["1000", "1000"]


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("status", [429, 500, 401])
def test_a_refusal_is_not_retried_behind_our_back(name: str, status: int) -> None:
    answer, server, _ = asked(name, lambda n, body: (status, '{"error": {"message": "no", "code": 1}}'))
    assert answer.planner == "offline"
    assert "web-1" in answer.text
    assert len(server.requests) <= 3  # one for each rung of the ladder
    assert KEY not in " ".join(answer.limits)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_request_ends_at_its_time_out(name: str) -> None:
    answer, server, _ = asked(name, lambda n, body: 30.0, timeout_s=0.5)
    assert answer.planner == "offline"
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_prose_is_no_plan(name: str) -> None:
    answer, _, _ = asked(name, lambda n, body: says("The disk of web-1 is nearly full, trust me."))
    assert answer.planner == "offline"
    assert "trust me" not in answer.text


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_key_is_in_no_repr(name: str) -> None:
    provider = made(name, "http://127.0.0.1:9")
    assert KEY not in repr(provider.options)
    assert KEY not in repr(provider.chat_model(PROTOCOLS[name].model))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("anthropic", {}, "api_key"),
        ("azure_openai", {"api_key": "k", "endpoint": "example"}, "endpoint"),
        ("google", {}, "either api_key or project"),
        ("google", {"project": "p"}, "location"),
        ("bedrock", {}, "region"),
        ("ollama", {"model": "x"}, "model"),
    ],
)
def test_wrong_options_stop_the_start(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build("connectors.llm", name, options, PluginContext(name))
