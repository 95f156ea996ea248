"""The registry of models, its snapshots, by the settings."""

from __future__ import annotations

from aiops.models.encryption import key_of
from aiops.models.registry import ModelRegistry
from aiops.settings import Settings


def model_registry(settings: Settings) -> ModelRegistry:
    """Raises ``ConfigError`` for a key file that cannot be read."""
    registry = settings.models.registry
    return ModelRegistry(settings.data_dir, registry, key=key_of(registry, settings.store))
