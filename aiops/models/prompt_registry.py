"""The prompts of this package in MLflow's prompt registry: ``prompts:/NAME@champion`` is the one in use.

A version is its text: a file that changed becomes a new version at the next start, one that came back takes its old.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from aiops.models.registry import CHAMPION
from aiops.models.tracking import Tracking

_DIGEST, _OUR_VERSION, _PURPOSE = "aiops.sha256", "aiops.version", "aiops.purpose"


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt's text, the names that ``{…}`` in it are filled with, and the version that its file states."""

    name: str
    text: str
    inputs: tuple[str, ...]
    version: str
    purpose: str = ""

    @property
    def template(self) -> str:
        """As MLflow fills it, with double braces."""
        return re.sub(r"\{([a-z_]+)\}", lambda m: f"{{{{{m[1]}}}}}" if m[1] in self.inputs else m[0], self.text)


class PromptRegistry:
    """Registers prompts; thread-safe."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def register(self, prompts: Collection[PromptText]) -> dict[str, str]:
        """Register what is new or changed; returns the registry's version in use of each prompt.

        Raises:
            TransientError, PermanentError: the registry refuses.
        """
        with self._tracking.client() as client:
            return {prompt.name: self._register(client, prompt) for prompt in prompts}

    def _register(self, client: Any, prompt: PromptText) -> str:
        digest = hashlib.sha256(prompt.template.encode()).hexdigest()
        known = client.get_prompt(prompt.name)
        if known is not None:
            found = client.search_prompt_versions(prompt.name, max_results=1000)
            for version in sorted(found, key=lambda v: -int(v.version)):
                if dict(version.tags).get(_DIGEST) == digest:
                    return self._use(client, prompt.name, version)
        tags = {_DIGEST: digest, _OUR_VERSION: prompt.version, _PURPOSE: prompt.purpose}
        made = client.register_prompt(
            prompt.name, prompt.template, commit_message=f"version {prompt.version} of the file", tags=tags
        )
        return self._use(client, prompt.name, made)

    @staticmethod
    def _use(client: Any, name: str, version: Any) -> str:
        if CHAMPION not in (version.aliases or ()):
            client.set_prompt_alias(name, CHAMPION, int(version.version))
        return str(version.version)
