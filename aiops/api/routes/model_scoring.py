"""Scores of series on request, and of a time range as a job."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from aiops.api import score_requests
from aiops.api.auth import Reader, Uncounted
from aiops.api.schemas_scoring import (
    BatchSummaryOut,
    ScoreBatchIn,
    ScoreBatchOut,
    ScoreIn,
    ScoresOut,
    ScoringOut,
    SeriesList,
)
from aiops.api.services import Services, running
from aiops.core.errors import Forbidden, InvalidInput
from aiops.core.model import ModelAction
from aiops.core.principal import Principal
from aiops.models.batch_scoring import KIND, BatchSummary, ScoreBatches
from aiops.models.scoring import ScoringService

SPARE_THREADS = 8
"""Beyond the requests that may be in hand, so that a refusal does not wait."""


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["models"])
    pool = ThreadPoolExecutor(services.settings.models.serving.max_waiting + SPARE_THREADS, "score")

    def scoring() -> ScoringService:
        return running(services.scoring, "scoring service")

    def batches() -> ScoreBatches:
        return running(services.score_batches, "scoring service")

    def require(caller: Principal, name: str) -> None:
        try:
            services.model_access.require(caller, ModelAction.USE, name)
        except Forbidden:
            services.audit.append(caller.name, "model.refused", name, {"action": ModelAction.USE.value})
            raise

    def scores(name: str, body: ScoreIn, caller: Principal) -> bytes:
        service, most = scoring(), services.settings.models.serving.request_points
        require(caller, name)
        step_ms = service.step_ms(name, body.version)
        seen = [one for one in body.series if score_requests.may_see(one.id, caller.scope)]
        if not seen:
            raise InvalidInput("None of the series is yours to be scored.")
        batch = score_requests.batch_of(body.model_copy(update={"series": seen}), step_ms, most)
        deadline_s = None if body.deadline_ms is None else body.deadline_ms / 1000
        found = service.score(name, batch, version=body.version, deadline_s=deadline_s, by=caller.name)
        if services.score_log is not None:
            services.score_log.note(caller.name, name, len(batch), int(batch.mask.sum()))
        return score_requests.answer(name, batch, found, body.series, body)

    @routes.post("/models/{name}/score", response_model=ScoresOut)
    async def score(name: str, body: ScoreIn, caller: Uncounted) -> Response:
        """Scores of series by the model's champion, or by its candidate where a trial gives it their share.

        Requests that come within a few milliseconds share one call of the detector. Too many at once are answered
        429 with Retry-After; one that is not scored by its deadline 503.
        """
        loop = asyncio.get_running_loop()
        return Response(await loop.run_in_executor(pool, scores, name, body, caller), media_type="application/json")

    @routes.get("/models/{name}/series", response_model=SeriesList)
    def series(name: str, caller: Reader, version: Annotated[str, Query(max_length=20)] = "") -> SeriesList:
        """The series that a model knows, by the ids that requests for scores use."""
        service = scoring()
        require(caller, name)
        ids = [key for key in service.series(name, version) if score_requests.may_see(key, caller.scope)]
        return SeriesList(model=name, step_ms=service.step_ms(name, version), series=ids)

    @routes.get("/scoring", response_model=ScoringOut)
    def state(_caller: Reader) -> ScoringOut:
        """What serves, and how the workers are."""
        return ScoringOut.model_validate(asdict(scoring().state()))

    @routes.post("/models/{name}/score-batches", response_model=ScoreBatchOut, status_code=202)
    def score_batch(name: str, body: ScoreBatchIn, caller: Reader) -> ScoreBatchOut:
        """Score a time range of the watched series as a job."""
        batches()
        require(caller, name)
        if caller.scope is not None:
            raise Forbidden("A caller with a label scope may not score all series.", hint="POST .../score takes some.")
        if not body.start_ms < body.end_ms:
            raise InvalidInput("The range to score ends before it begins.")
        result = uuid.uuid4().hex
        arguments = {
            "result": result,
            "model": name,
            "start_ms": str(body.start_ms),
            "end_ms": str(body.end_ms),
            "by": caller.name,
            "query": body.query,
            "version": body.version,
            "values": "true" if body.values else "",
        }
        job = running(services.jobs, "job queue").submit(KIND, arguments, by=caller.name)
        assert job is not None, "without a unique key a job is always queued"
        services.audit.append(caller.name, "model.score_batch", name, {"job": job.id, "result": result})
        return ScoreBatchOut(id=result, job=job.id)

    def seen_batch(batch_id: str, caller: Principal) -> BatchSummary:
        found = batches().summary(batch_id)
        require(caller, found.model)
        if caller.scope is not None:
            raise Forbidden("A caller with a label scope may not see the scores of all series.")
        return found

    @routes.get("/score-batches/{batch_id}", response_model=BatchSummaryOut)
    def batch_summary(batch_id: str, caller: Reader) -> BatchSummaryOut:
        """What a finished batch found."""
        return BatchSummaryOut.model_validate(asdict(seen_batch(batch_id, caller)))

    @routes.get("/score-batches/{batch_id}/scores", response_class=Response)
    def batch_scores(batch_id: str, caller: Reader, format: Literal["parquet", "csv"] = "parquet") -> Response:
        """The kept scores of a finished batch: series, time, value, score, expected, lower, upper, threshold."""
        seen_batch(batch_id, caller)
        if format == "csv":
            return Response(batches().csv(batch_id), media_type="text/csv; charset=utf-8")
        return Response(batches().parquet(batch_id), media_type="application/vnd.apache.parquet")

    return routes
