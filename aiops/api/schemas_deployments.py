"""Requests and responses of trials. The conventions are those of :mod:`aiops.api.schemas`."""

from __future__ import annotations

from pydantic import Field

from aiops.api.schemas import Number, Reply, RequestBody, Text
from aiops.core.model import DeploymentState, Strategy


class DeploymentIn(RequestBody):
    version: str = Field(max_length=20, description="the candidate")
    strategy: Strategy
    share: float = Field(0.1, gt=0, le=1, description="of the series, for a canary")


class EndIn(RequestBody):
    reason: str = Field("", max_length=1000)


class GuardOut(Reply):
    name: str
    hits: int
    looks: int
    limit: Number = Field(description="share of hits that is still good")
    lower: Number = Field(description="Wilson's 95 % interval of the share")
    upper: Number
    evidence: Number = Field(description="logarithm of the likelihood ratio against the candidate")
    needed: Number = Field(description="evidence that ends the trial")
    broken: bool


class DeploymentOut(Reply):
    id: str
    model: Text
    strategy: Strategy
    stable: str
    candidate: str
    share: Number
    state: DeploymentState
    started_ms: int
    started_by: Text
    ended_ms: int | None
    ended_by: Text
    reason: Text = Field(description="what ended it, with figures")
    incident: str = Field(description="the incident that the candidate caused")
    measures: dict[str, Number]
    guards: list[GuardOut]


class DeploymentList(Reply):
    deployments: list[DeploymentOut]
