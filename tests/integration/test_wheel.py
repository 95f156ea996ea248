"""The wheel holds everything: plug-ins are found, and prompts, concepts, templates and migrations are in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aiops.core import plugins

ROOT = Path(__file__).parents[2]
LOOK = """
import json, sys
sys.path.insert(0, sys.argv[1])
import aiops.core.plugins as plugins, aiops.agent.prompts as prompts
from aiops.agent.concepts import load_concepts
from aiops.store.state.database import StateDatabase
assert plugins.__file__.startswith(sys.argv[1]), plugins.__file__
state = StateDatabase("sqlite:///" + sys.argv[2])
state.upgrade()
assert state.healthy()
state.close()
print(json.dumps({
    "plugins": {kind: sorted(plugins.discover(kind)) for kind in plugins.KINDS},
    "concepts": len(load_concepts()),
    "prompt": bool(prompts.load("plan_question")),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, cwd=folder)
    return next(folder.glob("*.whl"))


def test_what_is_found_from_the_wheel_is_what_is_found_here(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIOPS_")}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(site), str(tmp_path / "state.db")],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["plugins"] == {kind: sorted(plugins.discover(kind)) for kind in plugins.KINDS}
    assert found["concepts"] > 50
    assert found["prompt"]


def test_the_wheel_holds_no_tests_and_no_surprises(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"aiops", "detectors", "connectors", "prompts"}
