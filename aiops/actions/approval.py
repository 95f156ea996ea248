"""Proposals, their approval by a person, and what came of them."""

from __future__ import annotations

import builtins
import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from aiops.actions import policy
from aiops.actions.catalogue import CATALOGUE, Parameters, SilenceParameters, checked, kind_of
from aiops.core.action import Action, ActionProposal, ProposalStatus
from aiops.core.errors import AiopsError, Conflict, Forbidden, InvalidInput, NotFound, TransientError
from aiops.core.incident import Incident, SignalKind
from aiops.core.ports import Clock, Executor, system_clock
from aiops.core.principal import SYSTEM, Principal, Role
from aiops.core.signals import label
from aiops.incidents.correlation import service_of
from aiops.settings import ActionSettings
from aiops.store.state.actions import ActionRepository
from aiops.store.state.audit import AuditLog

log = logging.getLogger(__name__)

ASSISTANT = Principal("system:assistant", Role.RESPONDER, can_approve=False)
"""The proposer of what the service itself suggests."""
SILENCE_S = 3600


class Incidents(Protocol):
    """What is asked of the incident service."""

    def get(self, incident_id: str, principal: Principal) -> Incident: ...

    def note(self, incident_id: str, principal: Principal, text: str) -> Incident: ...


class ActionService:
    """From proposal to outcome. Thread-safe: of two approvals of one proposal, one wins.

    Args:
        executors: by configured name; an action names the one that is to do it.
        expiry_s: how long a proposal may be approved.
    """

    def __init__(
        self,
        repository: ActionRepository,
        audit: AuditLog,
        incidents: Incidents,
        executors: Mapping[str, Executor[Any]],
        clock: Clock = system_clock,
        settings: ActionSettings | None = None,
        expiry_s: float = 900.0,
    ) -> None:
        self._repository = repository
        self._audit = audit
        self._incidents = incidents
        self._executors = dict(executors)
        self._clock = clock
        self._settings = settings or ActionSettings()
        self._expiry_ms = int(expiry_s * 1000)

    def recover(self) -> tuple[str, ...]:
        """Once at start: actions that were running when the service stopped become ``unknown``."""
        found = self._repository.abandon_unfinished()
        for proposal_id in found:
            self._audit.append(SYSTEM.name, "action.unknown", proposal_id, {"why": "the service stopped meanwhile"})
        return found

    def propose(self, action: Action, incident_id: str, reason: str, proposer: Principal) -> ActionProposal:
        """Put an action before the people who may approve it.

        Raises:
            InvalidInput: not in the catalogue, wrong parameters, no such executor.
            Forbidden: no measured trigger on that target, or the role may not propose.
            Conflict: the incident is over.
            NotFound: no such incident for this principal.
            PermanentError, TransientError: the executor's dry run failed.
        """
        if not self._settings.enabled:
            raise Forbidden("Actions are switched off.", hint="Set actions.enabled.")
        policy.check_proposer(proposer)
        action, parameters = checked(action)
        executor = self._executor(action, parameters)
        if isinstance(parameters, SilenceParameters) and parameters.duration_s > self._settings.silence_max_s:
            raise InvalidInput(f"A silence lasts {self._settings.silence_max_s:.0f} s at most.")
        evidence = policy.trigger(action, parameters, self._incidents.get(incident_id, proposer))
        effect = executor.dry_run(action)
        now = self._clock()
        proposal = ActionProposal(
            id=f"ACT-{secrets.token_hex(6)}",
            action=action,
            incident_id=incident_id,
            reason=_sentences(reason[:1000].strip(), effect),
            evidence=evidence,
            proposer=proposer.name,
            created_ms=now,
            expires_ms=now + self._expiry_ms,
            nonce=secrets.token_hex(16),
            destructive=kind_of(action).destructive,
        )
        self._repository.add(proposal)
        self._record(proposer.name, "action.proposed", proposal)
        return proposal

    def suggest(self, incident: Incident) -> tuple[ActionProposal, ...]:
        """What the configured executors could do about an incident, as proposals; asking twice adds none."""
        if not self._settings.enabled or not incident.active:
            return ()
        self._expire()
        waiting = self._repository.list(ProposalStatus.PROPOSED, incident_id=incident.id)
        found = []
        for action, reason in self._ideas(incident):
            same = next((p for p in waiting if p.action == action), None)
            try:
                found.append(same or self.propose(action, incident.id, reason, ASSISTANT))
            except AiopsError as error:
                log.info("no proposal of %s for %s: %s", action.kind, incident.id, error)
        return tuple(found)

    def approve(self, proposal_id: str, digest: str, principal: Principal) -> ActionProposal:
        """Approve and carry out; returns the proposal with its outcome.

        Args:
            digest: of the proposal as the person saw it.

        Raises:
            Forbidden: may not approve, or the digest is of something else.
            Conflict: decided already, expired, or the incident is over.
            NotFound: no such proposal for this principal.
        """
        proposal = self.get(proposal_id, principal)
        policy.check_approver(proposal, principal)
        if not hmac.compare_digest(digest.encode(), proposal.digest.encode()):
            self._audit.append(principal.name, "action.refused", proposal_id, {"why": "the digest differs"})
            raise Forbidden("The approval is for something else than this action.", hint="Look at the action again.")
        now = self._clock()
        if proposal.status is not ProposalStatus.PROPOSED:
            raise Conflict(f"The action {proposal_id} is {proposal.status.value}.")
        if now >= proposal.expires_ms:
            self._expire()
            raise Conflict(f"The action {proposal_id} has expired.", hint="Propose it again.")
        action, parameters = checked(proposal.action)
        policy.trigger(action, parameters, self._incidents.get(proposal.incident_id, principal))
        executor = self._executor(action, parameters)
        approved = self._repository.decide(
            proposal_id, ProposalStatus.PROPOSED, ProposalStatus.APPROVED, principal.name, now
        )
        self._record(principal.name, "action.approved", approved)
        return self._run(approved, executor, principal)

    def reject(self, proposal_id: str, principal: Principal, reason: str = "") -> ActionProposal:
        """Raises ``Forbidden`` without the role, ``Conflict`` when it is decided already."""
        proposal = self.get(proposal_id, principal)
        policy.check_proposer(principal)
        rejected = self._repository.decide(
            proposal.id, ProposalStatus.PROPOSED, ProposalStatus.REJECTED, principal.name, self._clock()
        )
        self._record(principal.name, "action.rejected", rejected, {"reason": reason[:500]} if reason else {})
        return rejected

    def get(self, proposal_id: str, principal: Principal) -> ActionProposal:
        """Raises ``NotFound`` also where the incident is outside the principal's scope."""
        proposal = self._repository.get(proposal_id)
        if proposal is None or not self._visible(proposal, principal):
            raise NotFound(f"There is no action '{proposal_id}'.")
        return proposal

    def list(
        self,
        principal: Principal,
        status: ProposalStatus | None = None,
        incident_id: str = "",
        limit: int = 100,
    ) -> builtins.list[ActionProposal]:
        """Newest first."""
        self._expire()
        found = self._repository.list(status, limit, incident_id)
        return [p for p in found if principal.scope is None or self._visible(p, principal)]

    # ---------------------------------------------------------------- inside

    def _run(self, proposal: ActionProposal, executor: Executor[Any], principal: Principal) -> ActionProposal:
        try:
            result = executor.execute(proposal.action, proposal.id)
            status = ProposalStatus.EXECUTED if result.ok else ProposalStatus.FAILED
            detail = result.detail
        except TransientError as error:
            status, detail = ProposalStatus.UNKNOWN, f"{error} Whether it was done is not known."
        except AiopsError as error:
            status, detail = ProposalStatus.FAILED, str(error)
        except Exception as error:
            log.exception("executor of %s failed", proposal.id)
            status, detail = ProposalStatus.UNKNOWN, f"The executor broke off ({type(error).__name__})."
        finished = self._repository.finish(proposal.id, status, detail[:2000])
        self._record(principal.name, f"action.{status.value}", finished, {"result": detail[:500]})
        try:
            words = f"{proposal.action.kind} on {proposal.action.target} {status.value}: {detail}"
            self._incidents.note(proposal.incident_id, principal, words)
        except AiopsError as error:
            log.warning("the outcome of %s is not on its incident: %s", proposal.id, error)
        return finished

    def _executor(self, action: Action, parameters: Parameters) -> Executor[Any]:
        executor = self._executors.get(parameters.executor)
        if executor is None or action.kind not in executor.action_kinds:
            able = sorted(n for n, e in self._executors.items() if action.kind in e.action_kinds)
            raise InvalidInput(
                f"No executor '{parameters.executor}' does '{action.kind}'.",
                hint=f"Configured for it: {', '.join(able) or 'none'}.",
            )
        return executor

    def _ideas(self, incident: Incident) -> builtins.list[tuple[Action, str]]:
        """Deterministic: executors by name; silences for alerts, webhooks for the cause's or symptom's service."""
        ideas = []
        firing = [s.alert for s in incident.signals if s.alert.firing]
        for name, executor in sorted(self._executors.items()):
            if "silence" in executor.action_kinds:
                alerts = [a for a in firing if a.kind is SignalKind.ALERT and label(a.labels, "alertname")]
                for alert in alerts[:3]:
                    keep = ("alertname", "service", "namespace", "instance", "cluster")
                    pairs = {k: v for k, v in alert.labels if k in keep}
                    parameters = {"executor": name, "matchers": json.dumps(pairs), "duration_s": str(SILENCE_S)}
                    ideas.append(("silence", alert.service, parameters, f"{alert.name} is being worked on."))
            if "webhook" in executor.action_kinds:
                services = {service_of(a) for a in firing if a.kind in policy.MEASURED}
                causes = [c.service for c in incident.candidates[:1] if incident.clear_cause and c.service in services]
                target = next(iter(causes), incident.service if incident.service in services else "")
                if target:
                    ideas.append(("webhook", target, {"executor": name}, f"{target} is where it shows."))
        return [
            (checked(Action(kind, target, tuple(sorted(p.items()))))[0], reason)
            for kind, target, p, reason in ideas
            if kind in CATALOGUE and target
        ]

    def _visible(self, proposal: ActionProposal, principal: Principal) -> bool:
        if principal.scope is None:
            return True
        try:
            self._incidents.get(proposal.incident_id, principal)
        except NotFound:
            return False
        return True

    def _expire(self) -> None:
        for proposal_id in self._repository.expire(self._clock()):
            self._audit.append(SYSTEM.name, "action.expired", proposal_id)

    def _record(self, actor: str, event: str, proposal: ActionProposal, more: Mapping[str, str] | None = None) -> None:
        detail = {
            "kind": proposal.action.kind,
            "target": proposal.action.target,
            "incident": proposal.incident_id,
            "digest": proposal.digest,
            **(more or {}),
        }
        self._audit.append(actor, event, proposal.id, detail)


def _sentences(first: str, second: str) -> str:
    """Two texts after each other; the first one ends in a full stop where a person left it out."""
    stop = "." if first and first[-1] not in ".!?…" else ""
    return f"{first}{stop} {second}".strip()
