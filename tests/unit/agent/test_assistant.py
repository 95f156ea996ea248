"""Questions to answers, on real parts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from aiops.agent.references import unsupported
from aiops.core.errors import InvalidInput
from aiops.core.evidence import EvidenceState
from aiops.core.incident import IncidentStatus
from aiops.core.principal import Principal, Role
from aiops.core.query import Question
from aiops.core.series import Matcher, MatchOp
from tests.unit.agent.house import INCIDENT, NOW, House, open_house


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house"), {"web-1": 0.42, "web-2": 0.31, "db-1": 0.04}) as house:
        yield house


@pytest.fixture
def house(shared: House) -> House:
    shared.incidents.rows = []
    return shared


def test_low_disks_are_named_with_query_figures_window_and_chart(house: House) -> None:
    answer = house.ask("which hosts are low on disk?")
    assert answer.sure
    assert "**1 of 3** series (free disk space) are below 10 %" in answer.text
    assert "**db-1** (device /dev/vda1, mountpoint /): 4 %" in answer.text
    (e,) = answer.evidence
    assert e.query.endswith("< 0.1")
    assert e.series is not None
    assert "newest sample" in answer.text
    assert "UTC" in answer.text
    assert any("threshold" in limit for limit in answer.limits)


def test_a_healthy_fleet_is_none_below_with_the_lowest(house: House) -> None:
    answer = house.ask("which hosts have less than 2% disk space left?")
    assert "**None below 2 %**" in answer.text
    assert answer.text.index("db-1") < answer.text.index("web-2") < answer.text.index("web-1")
    assert answer.evidence[0].state is EvidenceState.NO_MATCH


def test_used_turns_the_share_round(house: House) -> None:
    answer = house.ask("disk usage over 90%")
    assert "db-1" in answer.text
    assert "96 %" in answer.text


def test_what_is_wrong_names_incident_cause_change_and_figures(house: House) -> None:
    house.incidents.rows = [INCIDENT]
    answer = house.ask("what is wrong with checkout?")
    assert answer.sure
    assert "checkout has an incident that is open" in answer.text
    assert "**Most likely cause:** **payment** (62 % of the blame)" in answer.text
    assert "latency p95 50 ms → 900 ms (18x normal); first at 11:49:00" in answer.text
    assert "payment → checkout" in answer.text
    assert "payment v42" in answer.text
    assert "share of requests that fail, checkout: 10 % now" in answer.text
    assert [h.kept for h in answer.hypotheses] == [True, False]
    assert any(e.series is not None for e in answer.evidence)


def test_an_incident_downstream_is_found_along_the_calls(house: House) -> None:
    from dataclasses import replace

    house.incidents.rows = [replace(INCIDENT, service="payment", title="payment is slow", candidates=())]
    answer = house.ask("why is checkout slow?")
    assert "payment is slow" in answer.text
    assert "**No clear cause** has been found yet" in answer.text


def test_without_an_incident_the_figures_are_shown(house: House) -> None:
    answer = house.ask("what is wrong with checkout?")
    assert "**No open incident** concerns checkout" in answer.text
    assert "request rate, checkout: 10/s now, 10/s before" in answer.text
    house.incidents.rows = [INCIDENT.__class__(**{**_fields(INCIDENT), "status": IncidentStatus.RESOLVED,
                                                  "resolved_ms": NOW - 1000})]  # fmt: skip
    assert "was resolved" in house.ask("what is wrong with checkout?").text


def _fields(incident: object) -> dict[str, object]:
    return {name: getattr(incident, name) for name in incident.__dataclass_fields__}  # type: ignore[attr-defined]


def test_spend_of_the_week_by_service_with_shares_and_the_week_before(house: House) -> None:
    answer = house.ask("what did we spend this week, and on what?")
    assert "**120.50 USD** was spent this week, over 1 complete day" in answer.text
    assert "**Compute**: 100.00 USD, 83 % of all (before: 100.00 USD)" in answer.text
    assert answer.evidence[0].series is not None
    assert answer.evidence[0].series.sample_count >= 14


def test_figures_in_every_answer_are_in_its_evidence(house: House) -> None:
    house.incidents.rows = [INCIDENT]
    for text in ("which hosts are low on disk?", "what did we spend this week, and on what?", "cost forecast"):
        answer = house.ask(text)
        body = re.sub(r"_Window .*?_$", "", answer.text, flags=re.DOTALL)
        assert unsupported(body, answer.evidence, allowed=text + " 90") == []


def test_log_text_is_shown_harmless(house: House) -> None:
    answer = house.ask("show the error logs of payment")
    assert "card 1 refused (E1.f0)" in answer.text
    assert "<b>" not in answer.text.replace("\\<b\\>", "")


def test_late_data_is_not_an_answer_about_now(house: House) -> None:
    answer = house.ask("how much memory does redis use")
    assert answer.evidence[0].state is EvidenceState.SOURCE_LATE
    assert "**The data is late:**" in answer.text


def test_what_cannot_be_planned_abstains_with_candidates(house: House) -> None:
    answer = house.ask("how many unicorns dance in the moonlight?")
    assert not answer.sure
    assert answer.evidence == ()
    assert "I don't know" in answer.text


def test_a_metric_that_is_not_here_is_said(house: House) -> None:
    answer = house.ask("how full is the nginx connection pool")
    assert not answer.sure


def test_follow_ups_keep_the_question_before(house: House) -> None:
    house.ask("what is the p99 latency by service?", conversation="c1")
    answer = house.ask("only payment", conversation="c1")
    assert "payment" in answer.text
    assert 'service_name="payment"' in answer.evidence[0].query
    assert any("follow-up" in limit for limit in answer.limits)
    stored = house.conversations.answer(answer.id)
    assert stored is not None
    assert stored.answer.text == answer.text
    alone = house.ask("only payment")
    assert not any("follow-up" in limit for limit in alone.limits)


def test_a_scope_limits_what_is_seen(house: House) -> None:
    scoped = Principal("key:1", Role.VIEWER, (Matcher("instance", MatchOp.EQUAL, "web-1"),))
    answer = house.ask("which hosts are low on disk?", principal=scoped)
    assert "db-1" not in answer.text
    assert "web-1" in answer.text


def test_since_the_last_deploy_starts_there(house: House) -> None:
    answer = house.ask("request rate since the last deploy")
    assert answer.evidence[0].start_ms == NOW - 1_200_000


def test_an_incident_is_explained_by_id(house: House) -> None:
    house.incidents.rows = [INCIDENT]
    answer = house.assistant.explain("INC-1", Principal("system:x", Role.ADMIN))
    assert "payment" in answer.text


@pytest.mark.parametrize(("text", "zone"), [("", "UTC"), ("   ", "UTC"), ("x" * 3000, "UTC"), ("cpu", "Mars/Base")])
def test_bad_questions_are_refused(house: House, text: str, zone: str) -> None:
    with pytest.raises(InvalidInput):
        house.ask(text, zone=zone)


def test_progress_is_told(house: House) -> None:
    seen: list[str] = []
    house.assistant.ask(Question("cost forecast", Principal("a", Role.VIEWER), NOW), seen.append)
    assert seen[0] == "planning"
    assert len(seen) == 2


def test_open_incidents_elsewhere_are_mentioned(house: House) -> None:
    house.incidents.rows = [INCIDENT.__class__(**{**_fields(INCIDENT), "service": "catalog", "candidates": ()})]
    answer = house.ask("what is wrong with payment?")
    assert "**No open incident** concerns payment" in answer.text
    assert "Open elsewhere: INC-1 on catalog" in answer.text


def test_per_and_top_are_heard(house: House) -> None:
    answer = house.ask("request rate by job")
    assert "by (job)" in answer.evidence[0].query
    answer = house.ask("top 1 request rate")
    assert "checkout" in answer.text
    assert "payment" not in answer.text
    assert answer.evidence[0].truncated


def test_costs_are_answered_while_the_metric_source_is_down() -> None:
    from aiops.agent.assistant import Assistant
    from aiops.agent.catalogue import Catalogues
    from aiops.agent.executor import Executor
    from aiops.core.principal import LOCAL
    from tests.unit.agent.house import Incidents
    from tests.unit.agent.tables import TableQuerier

    querier = TableQuerier({}, [], [])
    querier.down = True
    executor = Executor(querier, incidents=Incidents([INCIDENT]))
    assistant = Assistant(Catalogues(querier, lambda: NOW), executor, clock=lambda: NOW)
    answer = assistant.ask(Question("are there open incidents?", LOCAL, NOW))
    assert "INC-1" in answer.text
    answer = assistant.ask(Question("which hosts are low on disk?", LOCAL, NOW))
    executor.close()
    assert "source is down" in answer.text
    assert "connection refused" in answer.text
    assert answer.confidence == 0
