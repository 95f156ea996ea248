"""Requests and responses of anomalies and of people's marks on them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aiops.api.schemas import AnomalyOut, Labels, Number, Reply, RequestBody, Text


class MarkOut(Reply):
    judgement: str = Field(description="true, false or missed")
    principal: Text
    time_ms: int
    start_ms: int
    end_ms: int
    note: Text


class AnomalyRowOut(AnomalyOut):
    """An episode with its series and its time; ``reason`` says in words which term fired."""

    service: Text
    labels: Labels
    started_ms: int
    updated_ms: int
    ended_ms: int | None
    threshold: Number
    reason: Text
    marks: list[MarkOut]


class AnomalyList(Reply):
    anomalies: list[AnomalyRowOut]


class TraceOut(Reply):
    """Steps around the episode; arrays of one length."""

    times_ms: list[int]
    value: list[Number]
    expected: list[Number]
    lower: list[Number]
    upper: list[Number]
    score: list[Number]


class SimilarOut(Reply):
    start_ms: int
    end_ms: int
    distance: Number
    known: Text = Field(description="what that stretch was")


class ExplanationOut(Reply):
    anomaly: AnomalyRowOut
    trace: TraceOut | None
    similar: list[SimilarOut]
    history_ms: int = Field(description="how much of the past was searched")


class MarkIn(RequestBody):
    judgement: Literal["true", "false"]
    note: str = Field("", max_length=1000)


class MissedIn(RequestBody):
    """A time at which a series should have raised an anomaly; ``labels`` are those of the watched query's result."""

    metric: str = Field(min_length=1, max_length=200)
    labels: dict[str, str] = Field(max_length=64)
    start_ms: int = Field(ge=0)
    end_ms: int = Field(ge=0)
    note: str = Field("", max_length=1000)


class ShareOut(Reply):
    hits: int
    count: int
    value: Number
    lower: Number
    upper: Number


class QualityOut(Reply):
    model: Text = Field(description="empty: all together")
    precision: ShareOut
    recall: ShareOut


class EvaluationOut(Reply):
    """By people's marks; recall knows only the misses that people told of. Intervals are of 95 %."""

    models: list[QualityOut]
