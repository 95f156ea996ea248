"""A model from its training to its rollback, by the commands of a user, on a service of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.model_life import MODEL, Stage, play


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_model_is_trained_tried_promoted_rolled_back_and_paid_for(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    try:
        seen = play(stage)
    finally:
        stage.close()
    check(seen, stage.transcript.text())


def check(seen: dict[str, Any], told: str) -> None:
    """What must have happened, and been told."""
    assert seen["versions"] == ["2", "1"]
    canary, planted, incident = seen["canary"], seen["planted"], seen["incident"]
    assert (canary["state"], canary["candidate"], canary["stable"]) == ("promoted", "2", "1")
    assert canary["measures"]["points"] >= 200 and "every guard held" in canary["reason"]
    assert (planted["state"], planted["candidate"], planted["stable"]) == ("rolled_back", "3", "2")
    assert planted["reason"].split(":")[0] in ("alone", "alerts")
    assert incident["status"] == "resolved"
    assert any(f"caused by model {MODEL}/3" in entry["detail"] for entry in incident["timeline"])
    assert seen["retrained"]["aliases"] == ["challenger"]
    assert {"model.canary", "model.promote", "model.blue_green", "model.rollback", "model.export"} <= set(seen["audit"])
    assert f"{MODEL} {seen['promoted']} is champion" in told
    assert "signature and files are valid" in told and "files were changed after they were signed" in told
