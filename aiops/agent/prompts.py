"""Prompt files: Markdown with a front matter of purpose, inputs, output and version, shipped as package data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from aiops.core.errors import ConfigError

_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's text and what its front matter says. ``version`` rises with every change of meaning."""

    name: str
    purpose: str
    inputs: tuple[str, ...]
    output: str
    version: int
    text: str

    def fill(self, **values: str) -> str:
        """The text with its inputs put in. Raises ``ConfigError`` for one that it does not name, or lacks."""
        missing = sorted(set(re.findall(r"\{([a-z_]+)\}", self.text)) - set(values))
        unknown = sorted(set(values) - set(self.inputs))
        if missing or unknown:
            raise ConfigError(f"The prompt {self.name} is filled wrongly: missing {missing}, unknown {unknown}.")
        return re.sub(r"\{([a-z_]+)\}", lambda m: values[m.group(1)], self.text)


@cache
def load(name: str) -> Prompt:
    """A prompt by its file name without suffix. Raises ``ConfigError`` when it is missing or malformed."""
    try:
        text = files("prompts").joinpath(f"{name}.md").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no prompt named '{name}'.") from error
    match = _FRONT.match(text)
    if match is None:
        raise ConfigError(f"The prompt '{name}' has no front matter.")
    front = yaml.safe_load(match.group(1))
    try:
        inputs = tuple(part.strip() for part in str(front["inputs"]).split(","))
        return Prompt(
            name, front["purpose"], inputs, front["output"], int(front["version"]), text[match.end() :].strip()
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"The front matter of the prompt '{name}' is wrong: {error}.") from error


def names() -> list[str]:
    """The names of all prompts that are shipped."""
    return sorted(file.name.removesuffix(".md") for file in files("prompts").iterdir() if file.name.endswith(".md"))
