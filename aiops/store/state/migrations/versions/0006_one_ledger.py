"""What LLM calls cost moves into the ledger of all models."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT subject, day, cost, calls FROM llm_usage ORDER BY day, subject")).all()
    for subject, day, cost, calls in rows:
        time_ms = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000
        use = {
            "model": subject,
            "version": "",
            "kind": "llm",
            "principal": "system:assistant",
            "time_ms": time_ms,
            "quantity": float(calls),
            "unit": "calls",
            "cost": float(cost),
            "team": "",
            "detail": [],
        }
        connection.execute(
            sa.text(
                "INSERT INTO model_uses (model, kind, principal, team, time_ms, cost, body) "
                "VALUES (:model, :kind, :principal, :team, :time_ms, :cost, :body)"
            ),
            {name: use[name] for name in ("model", "kind", "principal", "team", "time_ms", "cost")}
            | {"body": json.dumps(use)},
        )
    op.drop_table("llm_usage")
