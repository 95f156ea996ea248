"""Action proposals and their single-use decisions."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from aiops.core.action import ActionProposal, ProposalStatus
from aiops.core.errors import Conflict, NotFound
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import ActionRow


class ActionRepository:
    """Proposals by id and status. What a person approved never changes: only status and result do."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def add(self, proposal: ActionProposal) -> None:
        """Raises ``Conflict`` for an id that exists."""
        try:
            with self._database.session() as session:
                session.add(
                    ActionRow(
                        id=proposal.id,
                        incident_id=proposal.incident_id,
                        status=proposal.status.value,
                        created_ms=proposal.created_ms,
                        decided_by=proposal.decided_by,
                        decided_ms=proposal.decided_ms,
                        result=proposal.result,
                        body=codec.dumps(proposal),
                    )
                )
        except IntegrityError as error:
            raise Conflict(f"The action '{proposal.id}' exists already.") from error

    def get(self, proposal_id: str) -> ActionProposal | None:
        with self._database.reader() as session:
            row = session.get(ActionRow, proposal_id)
            return None if row is None else _proposal(row)

    def list(
        self, status: ProposalStatus | None = None, limit: int = 100, incident_id: str = ""
    ) -> tuple[ActionProposal, ...]:
        """The newest first."""
        query = select(ActionRow).order_by(ActionRow.created_ms.desc(), ActionRow.id.desc()).limit(limit)
        if status is not None:
            query = query.where(ActionRow.status == status.value)
        if incident_id:
            query = query.where(ActionRow.incident_id == incident_id)
        with self._database.reader() as session:
            return tuple(_proposal(row) for row in session.scalars(query))

    def decide(
        self, proposal_id: str, from_status: ProposalStatus, to_status: ProposalStatus, by: str, at_ms: int
    ) -> ActionProposal:
        """Compare-and-set of the status: of two deciders one wins.

        Raises:
            NotFound: no such proposal.
            Conflict: it is not in ``from_status`` any more.
        """
        return self._move(proposal_id, from_status, status=to_status.value, decided_by=by, decided_ms=at_ms)

    def finish(self, proposal_id: str, status: ProposalStatus, result: str) -> ActionProposal:
        """Record how an approved action ended. Raises as :meth:`decide` does."""
        return self._move(proposal_id, ProposalStatus.APPROVED, status=status.value, result=result)

    def expire(self, now_ms: int) -> tuple[str, ...]:
        """Mark proposals past their expiry; returns their ids."""
        overdue = [p for p in self.list(ProposalStatus.PROPOSED, limit=10_000) if p.expires_ms <= now_ms]
        expired = []
        for proposal in overdue:
            try:
                self._move(proposal.id, ProposalStatus.PROPOSED, status=ProposalStatus.EXPIRED.value)
            except Conflict:
                continue
            expired.append(proposal.id)
        return tuple(expired)

    def abandon_unfinished(self, result: str = "The service stopped while this action ran.") -> tuple[str, ...]:
        """At start: what was approved and has no outcome becomes ``unknown``; returns the ids."""
        with self._database.session() as session:
            approved = ActionRow.status == ProposalStatus.APPROVED.value
            ids = tuple(session.scalars(select(ActionRow.id).where(approved)))
            session.execute(
                update(ActionRow).where(approved).values(status=ProposalStatus.UNKNOWN.value, result=result)
            )
            return ids

    def counts(self) -> dict[str, int]:
        """Number of proposals by status word."""
        with self._database.reader() as session:
            rows = session.execute(select(ActionRow.status, func.count()).group_by(ActionRow.status)).all()
        return {str(status): int(count) for status, count in rows}

    def _move(self, proposal_id: str, from_status: ProposalStatus, **values: str | int) -> ActionProposal:
        with self._database.session() as session:
            changed = session.execute(
                update(ActionRow)
                .where(ActionRow.id == proposal_id, ActionRow.status == from_status.value)
                .values(**values)
                .execution_options(synchronize_session=False)
            )
            row = session.get(ActionRow, proposal_id, populate_existing=True)
            if row is None:
                raise NotFound(f"There is no action '{proposal_id}'.")
            if changed.rowcount != 1:  # type: ignore[attr-defined]
                raise Conflict(f"The action '{proposal_id}' is {row.status}, not {from_status.value}.")
            return _proposal(row)


def _proposal(row: ActionRow) -> ActionProposal:
    return replace(
        codec.loads(ActionProposal, row.body),
        status=ProposalStatus(row.status),
        decided_by=row.decided_by,
        decided_ms=row.decided_ms,
        result=row.result,
    )
