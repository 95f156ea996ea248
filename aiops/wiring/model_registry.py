"""The registry of models, its snapshots, checkpoints and lineage, by the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiops.agent import prompts
from aiops.core.errors import AiopsError
from aiops.core.model import Deployment
from aiops.models.checkpoints import Checkpoints
from aiops.models.datasets import DatasetStore
from aiops.models.encryption import key_of
from aiops.models.lineage import LineageReader
from aiops.models.prompt_registry import PromptRegistry, PromptText
from aiops.models.registry import ModelRegistry
from aiops.models.traces import LlmTraces
from aiops.settings import Settings
from aiops.store.state.checkpoints import CheckpointRepository
from aiops.store.state.database import StateDatabase
from aiops.store.state.datasets import DatasetRepository
from aiops.store.telemetry.encryption import extension_path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelRecords:
    """The registry and what is kept beside it."""

    registry: ModelRegistry
    datasets: DatasetStore
    checkpoints: Checkpoints
    traces: LlmTraces | None

    def lineage(self, deployments: Callable[[str], Sequence[Deployment]]) -> LineageReader:
        return LineageReader(self.registry, self.datasets, self.checkpoints, deployments)

    def note_llm(self, model: str) -> None:
        """Record the prompts, and the LLM ``provider:model`` that uses them; failing is told in the log.

        Without an LLM an empty registry is left alone: to make one takes seconds.
        """
        if not model and not self.registry.tracking.made:
            return
        from aiops.agent.llm_desk import PROMPT

        try:
            found = [prompts.load(name) for name in prompts.names()]
            texts = [PromptText(p.name, p.text, p.inputs, str(p.version), p.purpose) for p in found]
            versions = PromptRegistry(self.registry.tracking).register(texts)
            provider, _, name = model.partition(":")
            if name:
                self.registry.log_llm(provider, name, PROMPT, versions[PROMPT])
        except AiopsError as error:
            log.warning("prompts and the LLM are not recorded: %s", error)


def model_records(settings: Settings, state: StateDatabase) -> ModelRecords:
    """Raises ``ConfigError`` for a key file that cannot be read, or a key without the extra ``encryption``."""
    chosen, folder = settings.models.registry, settings.data_dir
    key = key_of(chosen, settings.store)
    if key is not None:
        extension_path()  # the snapshots need it; better missed now than after a training
    registry = ModelRegistry(folder, chosen, key=key)

    def live(name: str) -> set[str]:
        return {version.dataset for version in registry.versions(name) if version.aliases}

    datasets = DatasetStore(folder, DatasetRepository(state), keep=chosen.datasets_kept, key=key, live=live)
    checkpoints = Checkpoints(
        folder, CheckpointRepository(state), registry.signer, keep=chosen.checkpoints_kept, key=key
    )
    traces = LlmTraces(registry.tracking, contents=chosen.trace_contents) if chosen.trace_llm else None
    return ModelRecords(registry, datasets, checkpoints, traces)
