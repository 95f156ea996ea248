"""Requests and responses of our own routes. Times are ms UTC; text from telemetry is in its display form."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ComponentOut(BaseModel):
    name: str
    state: str = Field(description="starting, ready, degraded or down")
    detail: str = ""
    required: bool = Field(False, description="the service is not ready without it")


class Readiness(BaseModel):
    ready: bool
    components: list[ComponentOut]
