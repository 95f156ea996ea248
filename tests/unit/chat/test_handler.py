from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aiops.chat.handler import HELP, Conversation
from aiops.chat.people import principal_mapping
from aiops.core.action import Action, ActionProposal, ProposalStatus
from aiops.core.anomaly import Anomaly, Judgement
from aiops.core.errors import ConfigError, Conflict, NotFound, QueryError, TransientError
from aiops.core.evidence import Answer, Evidence, EvidenceState
from aiops.core.ports import ChatMessage
from aiops.core.principal import Principal, Role
from aiops.core.query import Question
from aiops.core.series import SampleBlock
from aiops.settings import PluginSettings

MAPPING = principal_mapping({"slack": PluginSettings(plugin="slack", users={"UA": "approver", "UR": "responder"})})
PROPOSAL = ActionProposal(
    "ACT-1", Action("webhook", "checkout"), "INC-1", "slow <b>", ("s1",), "system:assistant", 1, 2, "nonce"
)


class Assistant:
    def __init__(self, failure: Exception | None = None, proposals: tuple[str, ...] = ()) -> None:
        self.failure, self.proposals = failure, proposals
        self.questions: list[Question] = []

    def ask(self, question: Question, progress: Callable[[str], None] | None = None) -> Answer:
        self.questions.append(question)
        if self.failure:
            raise self.failure
        ts = np.arange(10, dtype=np.int64) * 60_000
        evidence = tuple(
            Evidence(
                f"E{i}", "metric", f"Disk {i}", "store", 'up{a="`x`"}', 0, 600_000, EvidenceState.OK,
                series=SampleBlock.build([((("i", "a"),), ts, np.arange(10.0))]),
            )
            for i in range(1, 6)
        )  # fmt: skip
        return Answer(
            "A1", question.text, "**Fine.** Ask of disk?", evidence, 0.9, True, "offline", 1, "Europe/Berlin",
            suggestions=("Ask of disk?", "cpu [x](y)?"), limits=("The source is late.",), proposals=self.proposals,
        )  # fmt: skip


class Actions:
    def __init__(self, status: ProposalStatus = ProposalStatus.PROPOSED) -> None:
        self.status = status
        self.calls: list[tuple[str, str, str, str]] = []

    def get(self, proposal_id: str, principal: Principal) -> ActionProposal:
        return self._proposal(self.status)

    def approve(self, proposal_id: str, digest: str, principal: Principal) -> ActionProposal:
        if self.calls:
            raise Conflict("The action ACT-1 is executed.")
        self.calls.append(("approve", proposal_id, digest, principal.name))
        return self._proposal(ProposalStatus.EXECUTED, "answered 200")

    def reject(self, proposal_id: str, principal: Principal, reason: str = "") -> ActionProposal:
        self.calls.append(("reject", proposal_id, "", principal.name))
        return self._proposal(ProposalStatus.REJECTED)

    @staticmethod
    def _proposal(status: ProposalStatus, result: str = "") -> ActionProposal:
        p = PROPOSAL
        return ActionProposal(
            p.id, p.action, p.incident_id, p.reason, p.evidence, p.proposer, 1, 2, p.nonce, status=status, result=result
        )


def said(text: str = "is disk low?", user: str = "UA") -> ChatMessage:
    return ChatMessage("slack", "C1", "T1", user, text)


def test_a_message_is_answered_with_charts_queries_limits_and_suggestions() -> None:
    assistant = Assistant()
    reply = Conversation(assistant, None, MAPPING, zone="Asia/Tokyo", clock=lambda: 7).message(said())
    (question,) = assistant.questions
    assert (question.text, question.asked_ms, question.zone) == ("is disk low?", 7, "Asia/Tokyo")
    assert (question.conversation, question.principal) == ("slack:C1:T1", Principal("slack:UA", Role.APPROVER))
    assert reply.text.startswith("**Fine.**")
    assert "[E1] `up{a=\"'x'\"}`" in reply.text
    assert "The source is late." in reply.text
    assert "Did you mean:\n- cpu \\[x\\](y)?" in reply.text
    assert [(name, alt) for name, alt, _ in reply.pictures] == [(f"e{i}.png", f"Disk {i}") for i in (1, 2, 3)]
    assert all(png.startswith(b"\x89PNG") for _, _, png in reply.pictures)


@pytest.mark.parametrize("text", ["", "  ", "help", "Help!"])
def test_help_is_shown(text: str) -> None:
    assert Conversation(Assistant(), None, MAPPING).message(said(text)).text == HELP


def test_errors_are_one_clear_line() -> None:
    reply = Conversation(Assistant(QueryError("bad <regex>", hint="Mend it.")), None, MAPPING).message(said())
    assert reply.text == "bad \\<regex\\> Mend it."

    def loading() -> Assistant:
        raise TransientError("The assistant is still starting.")

    assert "still starting" in Conversation(loading, None, MAPPING).message(said()).text
    long = Conversation(Assistant(), None, MAPPING).message(said("x" * 3000))
    assert "over 2000 characters" in long.text


def test_a_fault_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    reply = Conversation(Assistant(RuntimeError("secret detail")), None, MAPPING).message(said())
    assert "secret" not in reply.text
    reference = reply.text.rstrip(".").split()[-1]
    assert reference in caplog.text


def test_a_chart_that_cannot_be_drawn_costs_only_itself() -> None:
    def charts(evidence: Evidence, zone: str) -> bytes | None:
        if evidence.id == "E1":
            raise ValueError("odd")
        return None if evidence.id == "E2" else b"png"

    reply = Conversation(Assistant(), None, MAPPING, charts).message(said())
    assert [name for name, _, _ in reply.pictures] == ["e3.png", "e4.png", "e5.png"]


def test_open_proposals_get_buttons_bound_to_their_digest() -> None:
    reply = Conversation(Assistant(proposals=("ACT-1",)), Actions(), MAPPING).message(said())
    assert reply.buttons == (
        ("Approve webhook checkout", f"approve:ACT-1:{PROPOSAL.digest}"),
        ("Reject webhook checkout", f"reject:ACT-1:{PROPOSAL.digest}"),
    )
    assert "slow \\<b\\>" in reply.text
    done = Conversation(Assistant(proposals=("ACT-1",)), Actions(ProposalStatus.EXECUTED), MAPPING).message(said())
    assert done.buttons == ()


def test_a_mapped_person_approves_and_the_second_press_is_told() -> None:
    actions = Actions()
    chat = Conversation(Assistant(), actions, MAPPING)
    reply = chat.button(said(), "approve:ACT-1:abc")
    assert actions.calls == [("approve", "ACT-1", "abc", "slack:UA")]
    assert reply.text == "**webhook on checkout** was approved by slack:UA: executed. answered 200"
    assert "is executed" in chat.button(said(), "approve:ACT-1:abc").text


def test_others_may_ask_but_not_approve() -> None:
    actions = Actions()
    chat = Conversation(Assistant(), actions, MAPPING)
    assert chat.message(said(user="UNKNOWN")).text.startswith("**Fine.**")
    assert "may not approve" in chat.button(said(user="UNKNOWN"), "approve:ACT-1:abc").text
    assert actions.calls == []
    assert "rejected by slack:UR" in chat.button(said(user="UR"), "reject:ACT-1:abc").text
    for value in ("", "approve:", "approve:ACT-1", "run:ACT-1:abc"):
        assert "not one of ours" in chat.button(said(), value).text


def test_strangers_can_be_refused_altogether() -> None:
    closed = principal_mapping({"slack": PluginSettings(plugin="slack", others="")})
    assistant = Assistant()
    assert "not known" in Conversation(assistant, None, closed).message(said()).text
    assert "not known" in Conversation(assistant, None, closed).message(ChatMessage("teams", "C", "T", "U", "x")).text
    assert assistant.questions == []


def test_roles_are_checked_at_start() -> None:
    with pytest.raises(ConfigError, match="'boss' is not a role"):
        principal_mapping({"slack": PluginSettings(plugin="slack", users={"U1": "boss"})})


def test_one_person_cannot_flood_the_others() -> None:
    chat = Conversation(Assistant(), None, MAPPING, lambda e, z: None, per_minute=2)
    texts = [chat.message(said()).text for _ in range(3)]
    assert "More than 2 requests a minute" in texts[2]
    assert chat.message(said(user="UR")).text.startswith("**Fine.**")


def marked(anomaly_id: str) -> tuple[Conversation, list[tuple[str, Judgement, str]]]:
    calls: list[tuple[str, Judgement, str]] = []
    one = Anomaly(
        anomaly_id, (), "check<out>", "latency p95", "q", "latency", "up", 1, 2, None, 1.0, 0.1, 0.0, 0.2, 9.0, 1e-6
    )

    def marking(found_id: str, judgement: Judgement, who: Principal) -> Anomaly:
        if found_id != anomaly_id:
            raise NotFound(f"There is no anomaly '{found_id}'.")
        calls.append((found_id, judgement, who.name))
        return one

    return Conversation(Assistant(), None, MAPPING, marking=marking), calls


def test_a_button_marks_an_anomaly_as_a_false_alarm() -> None:
    chat, calls = marked("ab12-17")
    reply = chat.button(said("", "UR"), "mark:false:ab12-17")
    assert calls == [("ab12-17", Judgement.FALSE, "slack:UR")]
    assert reply.text.startswith("**check\\<out\\> latency p95** was marked a false alarm by slack:UR")
    assert "alarm less easily" in reply.text
    assert "a true anomaly" in chat.button(said("", "UA"), "mark:true:ab12-17").text


@pytest.mark.parametrize(
    "value", ["mark:", "mark:maybe:ab12-17", "mark:true:", "mark:true:other", "mark:missed:ab12-17"]
)
def test_a_mark_that_is_none_is_refused(value: str) -> None:
    chat, calls = marked("ab12-17")
    assert "There is no anomaly" in (text := chat.button(said(), value).text) or "not one of ours" in text
    assert calls == []


def test_only_responders_mark() -> None:
    chat, calls = marked("ab12-17")
    text = chat.button(said("", "stranger"), "mark:true:ab12-17").text
    assert calls == []
    assert "not known" in text or "does not include" in text
