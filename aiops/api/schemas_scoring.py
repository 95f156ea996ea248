"""Requests and responses of scoring. The conventions are those of :mod:`aiops.api.schemas`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aiops.api.schemas import Number, Reply, RequestBody, Text

MOST_SERIES = 100_000
Millis = Annotated[int, Field(ge=0, le=10**14)]


class SeriesIn(RequestBody):
    id: str = Field(max_length=4096, description="as the model knows it; GET .../series lists them")
    values: list[float | None] = Field(description="one a timestamp; null where nothing was observed")
    timestamps: list[Millis] | None = Field(None, description="of this series alone, instead of the request's")


class ScoreIn(RequestBody):
    series: list[SeriesIn] = Field(min_length=1, max_length=MOST_SERIES)
    timestamps: list[Millis] = Field(default_factory=list, description="of all series, ms UTC, on the model's step")
    latest: int = Field(0, ge=0, description="answer only so many of the latest steps; 0 answers all")
    terms: bool = Field(False, description="answer what makes up each score as well")
    version: str = Field("", max_length=20, description="a version's number, instead of the champion")
    deadline_ms: float | None = Field(None, gt=0, le=60_000)


class SeriesScoresOut(Reply):
    id: Text
    served_by: str = Field(description="stable or candidate; empty where no version knows the series")
    version: Text = Field(description="model and version that gave the scores")
    score: list[Number] = Field(description="higher is more anomalous; null where nothing can be said")
    expected: list[Number]
    lower: list[Number]
    upper: list[Number]
    threshold: Number = Field(description="the score at which this series is anomalous")
    anomalous: list[bool]
    terms: dict[Text, list[Number]] = Field(default_factory=dict)


class ScoresOut(Reply):
    model: Text
    step_ms: int
    timestamps: list[int]
    series: list[SeriesScoresOut]


class SeriesList(Reply):
    model: Text
    step_ms: int
    series: list[Text]


class WorkersOut(Reply):
    workers: int
    minimum: int
    maximum: int
    objective_ms: float
    waiting: int
    done: int = Field(description="requests' parts scored")
    calls: int = Field(description="calls of a detector that they took")
    shed: int
    late: int
    grown: int = Field(description="workers started beyond the minimum")
    shrunk: int
    wait_p50_ms: float
    wait_p99_ms: float


class ScoringOut(Reply):
    champions: dict[Text, Text]
    candidates: dict[Text, Text]
    stable: WorkersOut
    candidate: WorkersOut
    series_stable: int
    series_candidate: int
    fallbacks: int = Field(description="requests of which the champion answered a part in the candidate's stead")
    shed: int = Field(description="requests refused for want of room")
    late: int = Field(description="requests not scored in time")


class ScoreBatchIn(RequestBody):
    start_ms: Millis
    end_ms: Millis = Field(description="not scored itself")
    query: str = Field("", max_length=10_000, description="one watched query or its name; empty takes all")
    version: str = Field("", max_length=20)
    values: bool = Field(False, description="keep every value, not only those above their thresholds")


class ScoreBatchOut(Reply):
    id: str
    job: str = Field(description="GET /api/v1/jobs/{job_id} shows how far it is")


class SeriesSummaryOut(Reply):
    series: Text
    values: int
    above: int
    highest: Number
    threshold: Number


class BatchSummaryOut(Reply):
    model: Text
    version: str
    start_ms: int
    end_ms: int
    series: int
    unknown: int = Field(description="series that the version was not trained on")
    values: int
    above: int = Field(description="values above their thresholds")
    rows: int = Field(description="rows to download")
    seconds: float
    top: list[SeriesSummaryOut]
