"""The app over real parts: DuckDB and SQLite in a temporary folder, the shipped inbound parser, no network."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from aiops.access.keys import KeyService
from aiops.access.rates import RateLimits
from aiops.actions.approval import ActionService
from aiops.api.app import create_app
from aiops.api.services import Component, ComponentState, Services
from aiops.core.action import Action, ExecutionResult
from aiops.core.errors import InvalidInput
from aiops.core.evidence import Answer, Evidence, EvidenceState, Figure
from aiops.core.plugins import build
from aiops.core.ports import Executor, InboundParser, PluginContext, PluginOptions
from aiops.core.principal import Role
from aiops.core.query import Question
from aiops.core.series import Matcher, MatchOp, SampleBlock
from aiops.core.untrusted import Untrusted
from aiops.cost.service import CostService
from aiops.incidents.lifecycle import IncidentService
from aiops.incidents.muting import Muting
from aiops.incidents.notify import Dispatcher
from aiops.incidents.silences import Silences
from aiops.jobs.queue import JobQueue
from aiops.models.registry import ModelRegistry
from aiops.promql.engine import PromqlEngine
from aiops.settings import CostSettings, IncidentSettings, PromqlSettings, ServerSettings, Settings, StoreSettings
from aiops.store.state.actions import ActionRepository
from aiops.store.state.audit import AuditLog
from aiops.store.state.conversations import ConversationRepository
from aiops.store.state.database import StateDatabase, sqlite_url
from aiops.store.state.incidents import IncidentRepository
from aiops.store.state.jobs import JobRepository
from aiops.store.state.keys import KeyRepository
from aiops.store.state.outbox import OutboxRepository
from aiops.store.state.saved_questions import SavedQuestionRepository
from aiops.store.state.silences import SilenceRepository
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_764_000_000_000


class Time:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Echo:
    """An assistant whose answer is known: one drawable piece of evidence with hostile text."""

    def __init__(self, store: ConversationRepository) -> None:
        self.asked: list[Question] = []
        self._store = store
        self._numbers = itertools.count(1)

    def ask(self, question: Question, progress: Callable[[str], None] | None = None) -> Answer:
        self.asked.append(question)
        if progress is not None:
            progress("looking at disk\x1b[31m")
        if question.text == "fail":
            raise InvalidInput("The question is empty.")
        block = SampleBlock.build([((("host", "a\u202eb"),), [NOW - 60_000, NOW], [1.0, float("nan")])])
        evidence = Evidence(
            "E1", "metric", "disk", "store", "node_filesystem_avail_bytes", NOW - 60_000, NOW, EvidenceState.OK,
            (Figure(float("inf"), "By", (("host", "a\x00b"),)),), (Untrusted("line\nwith\x1b[31m\ud800 colour"),),
            block, link="javascript:alert(1)",
        )  # fmt: skip
        answer = Answer(
            f"ans-{next(self._numbers)}",
            question.text,
            "**fine**",
            (evidence,),
            0.9,
            True,
            "offline",
            NOW,
            question.zone,
            plan='{"steps":[{"promql":"up"}],"concept":"disk\\u202e"}',
        )
        self._store.save_answer(question, answer)
        return answer


class Recorder(Executor[PluginOptions]):
    """Carries out nothing but remembers what it was told."""

    action_kinds = ("webhook",)

    def dry_run(self, action: Action) -> str:
        return f"Would call {action.target}."

    def execute(self, action: Action, idempotency_key: str) -> ExecutionResult:
        return ExecutionResult(True, "called")


@dataclass
class Report:
    html: str = "<!doctype html><p>costs</p>"
    text: str = "costs"


@dataclass
class House:
    """The running app: a client for each role, and what is behind them."""

    services: Services
    time: Time
    client: TestClient
    texts: dict[str, str] = field(default_factory=dict)

    def headers(self, who: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.texts[who]}"} if who else {}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A migrated database with a key of each role, made once and copied for every test; and the key texts."""
    folder = tmp_path_factory.mktemp("template")
    state = StateDatabase(sqlite_url(folder))
    state.upgrade()
    keys = KeyService(KeyRepository(state), lambda: NOW, AuditLog(state, lambda: NOW))
    texts = {role.value: keys.create(role.value, role)[0] for role in Role}
    texts["scoped"], _ = keys.create("scoped", Role.ADMIN, (Matcher("team", MatchOp.EQUAL, "shop"),))
    with state.connection() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    state.close()
    return folder / "state.db", texts


@pytest.fixture
def database(tmp_path: Path, template: tuple[Path, dict[str, str]]) -> Iterator[StateDatabase]:
    shutil.copy(template[0], tmp_path / "state.db")
    state = StateDatabase(sqlite_url(tmp_path))
    yield state
    state.close()


@pytest.fixture
def open_house(
    tmp_path: Path, database: StateDatabase, template: tuple[Path, dict[str, str]]
) -> Iterator[Callable[..., House]]:
    opened: list[TelemetryDatabase] = []

    def make(
        auth: str = "keys", inbound: dict[str, object] | None = None, models: bool = False, **server: object
    ) -> House:
        time = Time()
        settings = Settings(data_dir=tmp_path, server=ServerSettings.model_validate({"auth": auth, **server}))
        telemetry = TelemetryDatabase(None, StoreSettings(), time)
        opened.append(telemetry)
        store = TelemetryStore(telemetry)
        audit = AuditLog(database, time)
        outbox = OutboxRepository(database)
        keys = KeyService(KeyRepository(database), time, audit)
        silences = Silences(SilenceRepository(database), IncidentSettings(), time)
        muting = Muting(silences.active, IncidentSettings())
        incidents = IncidentService(
            IncidentRepository(database), None, (), IncidentSettings(), time, mutes=muting, background=False
        )
        parser = build("connectors.inbound", "alertmanager", inbound or {}, PluginContext("alertmanager", time))
        assert isinstance(parser, InboundParser)
        recorder = Recorder(PluginOptions(), PluginContext("recorder", time))
        services = Services(
            settings=settings,
            clock=time,
            store=store,
            engine=PromqlEngine(store, PromqlSettings(), time),
            keys=keys,
            audit=audit,
            rates=RateLimits(settings.server.requests_per_minute),
            database=database,
            incidents=incidents,
            silences=silences,
            dispatcher=Dispatcher(outbox, {}, time),
            outbox=outbox,
            actions=ActionService(ActionRepository(database), audit, incidents, {"recorder": recorder}, time),
            conversations=ConversationRepository(database),
            saved_questions=SavedQuestionRepository(database),
            assistant=Echo(ConversationRepository(database)),
            cost=CostService(store, CostSettings(), time),
            cost_report=lambda caller, days: Report(),
            import_costs=lambda name, content: len(content),
            models=ModelRegistry(tmp_path / "models", clock=time) if models else None,  # MLflow takes seconds
            jobs=JobQueue(JobRepository(database), time),
            inbound={"alertmanager": parser},
            components=lambda: (Component("store", ComponentState.READY, required=True),),
            metrics_text=lambda: "# HELP up up\nup 1\n",
        )
        client = TestClient(create_app(services), base_url="http://127.0.0.1:8420")
        return House(services, time, client, template[1])

    yield make
    for telemetry in opened:
        telemetry.close()


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    return open_house()
