"""The life of a model, played on a running service with the commands that a user types; what they print is kept.

``python -m tests.e2e.model_life docs/model-life.md`` writes the transcript.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.latency_world import METRIC, World
from tests.e2e.process import Service, environment, until

MODEL = "anomaly-2s"
WIDTH = "110"
WINDOW_S = 60
"""What a check for drift compares with the training window; a user's is a day."""
CONFIG: dict[str, Any] = {
    "data_dir": "data",
    "detection": {
        "step_s": 2,
        "min_points": 120,
        "train_window_s": 7200,
        "watch_rules": False,
        "watch": [{"query": METRIC, "name": "latency", "step_s": 2, "kind": "latency", "direction": "up", "unit": "s"}],
    },
    "models": {
        "deployment": {"min_sample": 200, "min_time_s": 30, "max_time_s": 600},
        "drift": {"window_hours": WINDOW_S / 3600, "rest_hours": 0},
    },
}
PLANT = """\
from pathlib import Path
from aiops.core.anomaly import State
from aiops.models.registry import ModelRegistry

registry = ModelRegistry(Path("data"))
champion = registry.get("anomaly-2s")
state = registry.load_state(champion)
wrong = {key: array * 0.3 if key.endswith((":centre", ":unit")) else array for key, array in state.arrays.items()}
made = registry.log_training(
    champion.name,
    State(state.series_ids, state.step_ms, wrong, state.shared),
    family=champion.family,
    dataset=champion.dataset,
    parameters={**dict(champion.parameters), "planted": "levels and spreads at 30 %"},
    metrics={},
    parent=champion.reference,
)
print(f"planted {made.reference}")
"""
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Transcript:
    """What was typed and printed, under headings with a sentence each."""

    parts: list[str] = field(default_factory=list)

    def say(self, heading: str, text: str) -> None:
        self.parts.append(f"## {heading}\n\n{text}\n")

    def add(self, typed: str, printed: str) -> None:
        lines = [line.rstrip() for line in _ESCAPES.sub("", printed).replace("\r", "\n").splitlines()]
        while lines and not lines[0]:
            lines.pop(0)
        self.parts.append("```console\n" + "\n".join([f"$ {typed}", *lines]).rstrip() + "\n```\n")

    def text(self) -> str:
        return "\n".join(self.parts)


class Stage:
    """A service on a world of its own, and a shell beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transcript = Transcript()
        self.service = Service(folder, CONFIG)
        self.world = World(self.service.url)

    def close(self) -> None:
        self.world.stop()
        self.service.close()

    def run(self, typed: str, *, shown: bool = True, status: int = 0) -> str:
        """Type a command; its output. The output goes into the transcript unless it is not to be shown."""
        words = typed.split()
        command = [sys.executable, "-m", *words] if words[0] == "aiops" else [sys.executable, *words[1:]]
        done = subprocess.run(
            command, cwd=self.folder, env={**environment(), "COLUMNS": WIDTH}, capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{typed}\n{done.stdout}\n{done.stderr}\n{self.service.said()}"
        if shown:
            self.transcript.add(typed, done.stdout if not status else done.stdout + done.stderr)
        return done.stdout

    def get(self, path: str, **parameters: Any) -> Any:
        return self.service.http.get(path, params=parameters).json()

    def trial(self, deployment_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/api/v1/deployments/{deployment_id}")
        return found

    def over(self, deployment_id: str, seconds: float = 150.0) -> dict[str, Any]:
        """The deployment once it has ended."""

        def ended() -> dict[str, Any] | None:
            found = self.trial(deployment_id)
            return found if found["state"] != "running" else None

        return until(ended, seconds)


def play(stage: Stage) -> dict[str, Any]:
    """All of it, in order; what a test looks at by name."""
    seen: dict[str, Any] = {}
    stage.world.history(2)
    stage.world.go_on()
    until(lambda: stage.get("/api/v1/models").get("models"), 120)
    for scene in (_train, _canary, _plant, _season, _edge, _books):
        scene(stage, seen)
    return seen


def _train(stage: Stage, seen: dict[str, Any]) -> None:
    stage.transcript.say(
        "Train two versions",
        "Detection has trained version 1 by itself as soon as the store held enough; the second is asked for.",
    )
    stage.run("aiops models list")
    stage.run(f"aiops models train {MODEL} --challenger --reason second-look --wait")
    stage.run("aiops models list")
    stage.run(f"aiops models compare {MODEL}/1 {MODEL}/2")
    seen["versions"] = [v["version"] for v in stage.get(f"/api/v1/models/{MODEL}")["versions"]]


def _canary(stage: Stage, seen: dict[str, Any]) -> None:
    stage.transcript.say(
        "Canary",
        "Version 2 serves a tenth of the series, in detection and for requests. It holds every guard, so it is "
        "promoted by itself.",
    )
    printed = stage.run(f"aiops models canary {MODEL} 2 --share 0.1")
    seen["canary"] = stage.over(printed.split()[-1])
    stage.run(f"aiops models deployment {seen['canary']['id']}")
    stage.run("aiops models list")


def _plant(stage: Stage, seen: dict[str, Any]) -> None:
    (stage.folder / "plant.py").write_text(PLANT)
    stage.transcript.say(
        "A bad version",
        "`plant.py` (in `tests/e2e/model_life.py`) registers a version that takes every level and spread for a third "
        "of what it is, so that it alerts on everything. Tried blue/green, it is rolled back by itself, and the "
        "incidents that it opened are closed as the model's.",
    )
    stage.run("python plant.py")
    printed = stage.run(f"aiops models blue-green {MODEL} 3")
    seen["planted"] = stage.over(printed.split()[-1])
    until(lambda: stage.trial(seen["planted"]["id"])["incident"], 20)
    seen["planted"] = stage.trial(seen["planted"]["id"])
    stage.run(f"aiops models deployment {seen['planted']['id']}")
    seen["incident"] = stage.get(f"/api/v1/incidents/{seen['planted']['incident']}")
    stage.run("aiops incidents list")
    stage.run(f"aiops incidents show {seen['planted']['incident']}")
    stage.run("aiops models list")


def _season(stage: Stage, seen: dict[str, Any]) -> None:
    stage.world.factor = 1.6
    time.sleep(WINDOW_S + 10)
    stage.transcript.say(
        "Another season",
        "All latencies move up by 60 %. The second check that finds it starts a retraining, whose result is a "
        "challenger; a person promotes it. (A check runs every night by itself.)",
    )
    stage.run(f"aiops models drift {MODEL} --check")
    stage.run(f"aiops models drift {MODEL} --check")

    def retrained() -> dict[str, Any] | None:
        newest: dict[str, Any] = stage.get(f"/api/v1/models/{MODEL}")["versions"][0]
        return newest if newest["version"] != "3" else None

    newest = until(retrained, 60)
    seen["retrained"] = newest
    stage.run("aiops models list")
    stage.run(f"aiops models promote {MODEL} {newest['version']}")
    stage.run("aiops models list")
    seen["promoted"] = newest["version"]


def _edge(stage: Stage, seen: dict[str, Any]) -> None:
    stage.transcript.say(
        "To the edge",
        "The champion as ONNX with a signature and a scorer that needs only onnxruntime and numpy; a bundle of which a "
        "byte was changed is refused.",
    )
    stage.run(f"aiops models export {MODEL} edge")
    stage.run("aiops models verify edge")
    file = next((stage.folder / "edge").glob("*.onnx"))
    file.write_bytes(file.read_bytes() + b"\0")
    seen["refused"] = stage.run("aiops models verify edge", status=1)


def _books(stage: Stage, seen: dict[str, Any]) -> None:
    stage.transcript.say("The books", "Who did what, and what it cost.")
    stage.run("aiops models deployments")
    stage.run(f"aiops audit list --subject {MODEL}")
    stage.run("aiops models cost")
    seen["audit"] = [entry["action"] for entry in stage.get("/api/v1/audit", limit=500)["entries"]]
    stage.run("aiops audit verify")


def main(write: Callable[[str], object]) -> None:
    """Play, and hand on the transcript."""
    with tempfile.TemporaryDirectory(prefix="aiops-life-") as folder:
        stage = Stage(Path(folder))
        try:
            play(stage)
        finally:
            stage.close()
    head = (
        "# The life of a model\n\n"
        "What the commands printed on a running service: twelve services' latencies, sent by remote write every two\n"
        "seconds, with two hours of history. `python -m tests.e2e.model_life docs/model-life.md` plays it again, and\n"
        "`tests/e2e/test_model_life.py` checks it.\n\n"
    )
    write(head + stage.transcript.text())


if __name__ == "__main__":
    main(Path(sys.argv[1]).write_text)
