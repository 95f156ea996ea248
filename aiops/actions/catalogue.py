"""The kinds of action there are, and the parameters each takes. Nothing outside this list is ever run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from aiops.core.action import Action
from aiops.core.errors import InvalidInput
from aiops.core.plugins import explain


class Parameters(BaseModel):
    """``executor`` is the configured name of the plug-in that does it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: str = Field(min_length=1, max_length=100)


class WebhookParameters(Parameters):
    note: str = Field("", max_length=500)


class SilenceParameters(Parameters):
    """``matchers`` is a JSON object of label to exact value; seconds are capped by ``actions.silence_max_s``."""

    matchers: str
    duration_s: int = Field(3600, ge=60, le=4 * 3600)
    comment: str = Field("", max_length=500)

    @field_validator("matchers")
    @classmethod
    def exact_values(cls, value: str) -> str:
        try:
            pairs = json.loads(value)
        except ValueError as error:
            raise ValueError("must be a JSON object") from error
        if not isinstance(pairs, dict) or not pairs or not all(isinstance(v, str) and v for v in pairs.values()):
            raise ValueError("must map label names to values that are not empty")
        return json.dumps(pairs, sort_keys=True, separators=(",", ":"))

    @property
    def pairs(self) -> dict[str, str]:
        loaded: dict[str, str] = json.loads(self.matchers)
        return loaded


@dataclass(frozen=True, slots=True)
class ActionKind:
    """A catalogue entry. ``destructive`` asks for a second person."""

    name: str
    title: str
    parameters: type[Parameters]
    destructive: bool = False


CATALOGUE: Mapping[str, ActionKind] = {
    kind.name: kind
    for kind in (
        ActionKind("webhook", "Call a signed webhook that runs an automation", WebhookParameters, destructive=True),
        ActionKind("silence", "Silence an alert in Alertmanager for up to four hours", SilenceParameters),
    )
}


def kind_of(action: Action) -> ActionKind:
    """Raises ``InvalidInput`` for a kind that is not in the catalogue."""
    if action.kind not in CATALOGUE:
        raise InvalidInput(f"There is no action '{action.kind}'.", hint=f"There are: {', '.join(sorted(CATALOGUE))}.")
    return CATALOGUE[action.kind]


def checked(action: Action) -> tuple[Action, Parameters]:
    """The action in canonical form, with its parsed parameters.

    Raises:
        InvalidInput: an unknown kind, no target, or parameters that do not fit.
    """
    kind = kind_of(action)
    if not action.target.strip():
        raise InvalidInput("The action names no target.")
    try:
        parameters = kind.parameters.model_validate(dict(action.parameters))
    except ValidationError as error:
        known = list(kind.parameters.model_fields)
        raise InvalidInput(f"The parameters of '{kind.name}' do not fit: {explain(error, known)}.") from error
    pairs = tuple(sorted((k, str(v)) for k, v in parameters.model_dump().items() if str(v) != ""))
    return Action(kind.name, action.target, pairs), parameters
