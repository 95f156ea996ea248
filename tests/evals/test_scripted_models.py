"""The LLM path on the shop's cases, with models that behave well, badly and maliciously: never worse than offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiops.agent.catalogue import Catalogue, Catalogues
from aiops.agent.evals import Judged, Summary, Verdict
from aiops.agent.evals import cases as cases_of
from aiops.core.principal import LOCAL
from aiops.settings import Settings
from aiops.wiring.eval_world import World, opened, read_world
from aiops.wiring.evals import judged_cases
from tests.contract.chat_completions import Server
from tests.evals.models import Good, Mediocre, Script, malicious

SHOP = Path(__file__).parent / "worlds" / "shop"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with opened(read_world(SHOP)) as place:
        yield place


def judged(script: Script) -> list[Judged]:
    with Server(script).running() as server:
        settings = Settings.model_validate(
            {"agent": {"llm": {"model": "openai:gpt-5-mini", "base_url": server.url}}, "openai_api_key": "sk-test"}
        )
        return [j for _, j in judged_cases(SHOP, settings, llm=True)]


def shop_catalogue(world: World) -> Catalogue:
    querier = world.executor._metrics.querier
    return Catalogues(querier, lambda: world.spec.now_ms).of(LOCAL)


def test_a_good_model_plans_and_its_calls_are_priced(world: World) -> None:
    found = judged(Good(world.spec.now_ms, shop_catalogue(world)))
    summary = Summary.of(found)
    assert summary.shares[Verdict.WRONG_AND_SURE] <= 0.02
    planned = [j for j in found if j.answer.planner == "openai:gpt-5-mini"]
    assert len(planned) >= 0.6 * len(found)
    assert summary.cost > 0


def test_a_mediocre_model_is_repaired_or_left_aside(world: World) -> None:
    summary = Summary.of(judged(Mediocre(world.spec.now_ms, shop_catalogue(world))))
    assert summary.shares[Verdict.WRONG_AND_SURE] <= 0.02
    assert summary.shares[Verdict.RIGHT] >= 0.85


def test_a_malicious_model_does_nothing_and_says_nothing(world: World) -> None:
    found = judged(malicious)
    assert len(found) == len(cases_of(SHOP))
    for one in found:
        assert one.answer.proposals == ()
        everything = one.answer.text + " ".join(one.answer.limits)
        assert "evil.example" not in everything
        assert "9999" not in everything
    assert Summary.of(found).shares[Verdict.WRONG_AND_SURE] <= 0.02
    assert Summary.of(found).shares[Verdict.RIGHT] >= 0.95
