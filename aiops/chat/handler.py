"""One conversation turn: a message becomes an answer with charts and buttons, a button press a decision or a mark.

Called by surfaces from their worker threads; whatever goes wrong comes back as one clear line.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Protocol

from aiops.access.permissions import Permission, require
from aiops.access.rates import RateLimits
from aiops.chat.people import PrincipalOf
from aiops.core.action import ActionProposal, ProposalStatus
from aiops.core.anomaly import Anomaly, Judgement
from aiops.core.errors import AiopsError, Forbidden, InvalidInput, TransientError
from aiops.core.evidence import Answer, Evidence
from aiops.core.ports import Assistant, ChatMessage, ChatReply, Clock, system_clock
from aiops.core.principal import Principal
from aiops.core.query import Question
from aiops.core.untrusted import Untrusted
from aiops.reports.charts import chart_for
from aiops.reports.markdown import escape

log = logging.getLogger(__name__)

PICTURES = 3
EVIDENCE = 5
QUESTION_CAP = 2000
PER_MINUTE = 12
HELP = (
    "Ask in plain words, for example:\n"
    "- what is wrong with checkout?\n"
    "- which hosts are low on disk?\n"
    "- what did we spend this week, and on what?"
)

Charts = Callable[[Evidence, str], bytes | None]
"""(evidence, zone) to PNG, ``None`` where there is nothing to draw."""


class Actions(Protocol):
    """What is asked of the action service."""

    def get(self, proposal_id: str, principal: Principal) -> ActionProposal: ...

    def approve(self, proposal_id: str, digest: str, principal: Principal) -> ActionProposal: ...

    def reject(self, proposal_id: str, principal: Principal, reason: str = "") -> ActionProposal: ...


Marking = Callable[[str, Judgement, Principal], Anomaly]
"""Keeps a person's judgement of an anomaly, by its id. Raises ``NotFound``."""


class Conversation:
    """Implements ``core.ports.ConversationHandler``.

    Args:
        assistant: answers questions, or a callable that gives it, which may raise ``TransientError`` while it loads.
        actions: decides proposals; without it answers carry no buttons.
        principals: who a surface's user is.
        zone: IANA zone of the times shown.
        per_minute: turns that one user may take in any minute.
        marking: keeps what people say of anomalies.
    """

    def __init__(
        self,
        assistant: Assistant | Callable[[], Assistant],
        actions: Actions | None,
        principals: PrincipalOf,
        charts: Charts = chart_for,
        *,
        zone: str = "UTC",
        clock: Clock = system_clock,
        per_minute: int = PER_MINUTE,
        marking: Marking | None = None,
    ) -> None:
        self._assistant = assistant
        self._actions = actions
        self._principals = principals
        self._charts = charts
        self._zone = zone
        self._clock = clock
        self._rates = RateLimits(per_minute)
        self._marking = marking

    def message(self, message: ChatMessage) -> ChatReply:
        """Answer a message."""
        return self._guarded(message, lambda who: self._answer(message, who))

    def button(self, message: ChatMessage, value: str) -> ChatReply:
        """Approve or reject what ``value`` names, bound to the digest of what the person saw; or mark an anomaly."""
        turn = self._mark if value.startswith("mark:") else self._decide
        return self._guarded(message, lambda who: turn(value, who))

    def _guarded(self, message: ChatMessage, turn: Callable[[Principal], ChatReply]) -> ChatReply:
        try:
            who = self._principals(message.surface, message.user)
            if who is None:
                raise Forbidden("You are not known to this service.", hint="Ask an administrator to add your user id.")
            self._rates.check(who.name)
            return turn(who)
        except AiopsError as error:
            log.info("chat: %s for %s:%s", type(error).__name__, message.surface, message.user)
            return ChatReply(escape(Untrusted(str(error)).display()))
        except Exception:
            reference = secrets.token_hex(4)
            log.exception("chat turn failed, reference %s", reference)
            return ChatReply(f"That did not work because of a fault in this service. It is logged as {reference}.")

    def _answer(self, message: ChatMessage, who: Principal) -> ChatReply:
        text = message.text.strip()
        if not text or text.lower().rstrip("?!.") in ("help", "hi", "hello"):
            return ChatReply(HELP)
        if len(text) > QUESTION_CAP:
            raise InvalidInput(f"The question is over {QUESTION_CAP} characters long.", hint="Shorten it.")
        assistant = self._assistant if hasattr(self._assistant, "ask") else self._assistant()
        conversation = f"{message.surface}:{message.channel}:{message.thread}"
        answer = assistant.ask(Question(text, who, self._clock(), conversation, self._zone))
        buttons, notes = self._buttons(answer, who)
        return ChatReply("\n\n".join([answer.text.strip(), *_below(answer), *notes]), self._pictures(answer), buttons)

    def _pictures(self, answer: Answer) -> tuple[tuple[str, str, bytes], ...]:
        pictures: list[tuple[str, str, bytes]] = []
        for evidence in answer.evidence:
            if len(pictures) == PICTURES:
                break
            try:
                png = self._charts(evidence, answer.zone)
            except (ValueError, OSError, ArithmeticError, LookupError):
                # An answer without its picture is still an answer.
                log.exception("chart of %s could not be drawn", evidence.id)
                continue
            if png is not None:
                pictures.append((f"{evidence.id.lower()}.png", Untrusted(evidence.title).display(200), png))
        return tuple(pictures)

    def _buttons(self, answer: Answer, who: Principal) -> tuple[tuple[tuple[str, str], ...], list[str]]:
        buttons: list[tuple[str, str]] = []
        notes: list[str] = []
        for proposal_id in answer.proposals if self._actions is not None else ():
            proposal = self._service().get(proposal_id, who)
            if proposal.status is not ProposalStatus.PROPOSED:
                continue
            what = Untrusted(f"{proposal.action.kind} {proposal.action.target}").display(50)
            reason = Untrusted(proposal.reason).display(300)
            notes.append(f"**Proposed action** {escape(proposal.id)}: {escape(what)}. {escape(reason)}")
            buttons.append((f"Approve {what}", f"approve:{proposal.id}:{proposal.digest}"))
            buttons.append((f"Reject {what}", f"reject:{proposal.id}:{proposal.digest}"))
        return tuple(buttons), notes

    def _decide(self, value: str, who: Principal) -> ChatReply:
        verb, _, rest = value.partition(":")
        proposal_id, _, digest = rest.rpartition(":")
        if verb not in ("approve", "reject") or not proposal_id or not digest:
            raise InvalidInput("This button is not one of ours, or it is too old.")
        if verb == "approve" and not who.can_approve:
            raise Forbidden(
                "You may not approve actions: your user id is not mapped to a role here.",
                hint="Ask an administrator to list it under 'users' of this chat connector.",
            )
        actions = self._service()
        decided = actions.approve(proposal_id, digest, who) if verb == "approve" else actions.reject(proposal_id, who)
        what = escape(Untrusted(f"{decided.action.kind} on {decided.action.target}").display(120))
        word = "approved" if verb == "approve" else "rejected"
        outcome = f": {decided.status.value}" if verb == "approve" else ""
        result = f". {escape(Untrusted(decided.result).display(400))}" if decided.result else "."
        return ChatReply(f"**{what}** was {word} by {escape(who.name)}{outcome}{result}")

    def _mark(self, value: str, who: Principal) -> ChatReply:
        _, word, anomaly_id = [*value.split(":", 2), "", ""][:3]
        if word not in (Judgement.TRUE.value, Judgement.FALSE.value) or not anomaly_id:
            raise InvalidInput("This button is not one of ours, or it is too old.")
        require(who, Permission.RESPOND)
        if self._marking is None:
            raise TransientError("Anomalies cannot be marked here.")
        found = self._marking(anomaly_id, Judgement(word), who)
        what = " ".join(filter(None, (found.service, found.metric)))
        effect = "less easily" if word == Judgement.FALSE.value else "more easily"
        said = "a false alarm" if word == Judgement.FALSE.value else "a true anomaly"
        return ChatReply(
            f"**{escape(Untrusted(what).display(120))}** was marked {said} by {escape(who.name)}; "
            f"this series will alarm {effect}."
        )

    def _service(self) -> Actions:
        if self._actions is None:
            raise TransientError("Actions are not available.")
        return self._actions


def _below(answer: Answer) -> list[str]:
    """What was asked, what could not be seen, and what else may have been meant."""
    parts = []
    asked = [f"[{e.id}] `{Untrusted(e.query).display(800).replace('`', chr(39))}`" for e in answer.evidence if e.query]
    if asked:
        parts.append("\n".join(f"- {line}" for line in asked[:EVIDENCE]))
    if answer.limits:
        parts.append("\n".join(f"- {escape(Untrusted(text).display(300))}" for text in answer.limits))
    if missing := [s for s in answer.suggestions if s not in answer.text]:
        parts.append("Did you mean:\n" + "\n".join(f"- {escape(Untrusted(s).display(200))}" for s in missing))
    return parts
