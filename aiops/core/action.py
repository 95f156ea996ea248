"""Remediation: a typed action, its proposal, the approval bound to its hash. Times are ms UTC."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Action:
    """``kind`` names the catalogue entry; ``parameters`` are sorted (name, value) pairs."""

    kind: str
    target: str
    parameters: tuple[tuple[str, str], ...] = ()


class ProposalStatus(StrEnum):
    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    EXECUTED = "executed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """The service stopped while the action ran: a person has to look."""


@dataclass(frozen=True, slots=True)
class ActionProposal:
    """An action waiting for a person.

    ``evidence`` are the ids of measured signals on that very target; a proposal without one is refused.
    ``nonce`` makes the digest single-use.
    """

    id: str
    action: Action
    incident_id: str
    reason: str
    evidence: tuple[str, ...]
    proposer: str
    created_ms: int
    expires_ms: int
    nonce: str
    destructive: bool = False
    status: ProposalStatus = ProposalStatus.PROPOSED
    decided_by: str = ""
    decided_ms: int | None = None
    result: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over action, target, evidence, expiry and nonce; an approval names it."""
        body = {
            "action": asdict(self.action),
            "incident": self.incident_id,
            "evidence": list(self.evidence),
            "expires": self.expires_ms,
            "nonce": self.nonce,
        }
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """What an executor reports; ``detail`` is shown to people."""

    ok: bool
    detail: str
