"""Anomalies: list, explain with a picture, mark as true or false, tell of one that was missed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from aiops.api.auth import Reader, Responder
from aiops.api.schemas_anomalies import (
    AnomalyList,
    AnomalyRowOut,
    EvaluationOut,
    ExplanationOut,
    MarkIn,
    MarkOut,
    MissedIn,
)
from aiops.api.services import Services, running
from aiops.api.views_anomalies import anomaly_row, evaluation, explanation, mark_view
from aiops.core.anomaly import Judgement
from aiops.core.series import labels_of
from aiops.incidents.anomalies import Anomalies

DAY_MS = 86_400_000


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["anomalies"])

    def anomalies() -> Anomalies:
        return running(services.anomalies, "detection")

    @routes.get("/api/v1/anomalies", response_model=AnomalyList)
    def list_anomalies(
        caller: Reader,
        start_ms: Annotated[int, Query(ge=0, description="began at or after; a day ago by default")] = 0,
        end_ms: Annotated[int, Query(ge=0, description="began before; now by default")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        service: Annotated[str, Query(max_length=200)] = "",
    ) -> AnomalyList:
        """Episodes that the caller may see, the newest first."""
        end = end_ms or services.clock() + 1
        found = anomalies().list(caller, start_ms or end - DAY_MS, end, limit, service)
        return AnomalyList(anomalies=[anomaly_row(a, anomalies().marks(a.id)) for a in found])

    @routes.get("/api/v1/anomalies/{anomaly_id}", response_model=ExplanationOut)
    def explain(anomaly_id: str, caller: Reader) -> ExplanationOut:
        """One episode explained: the expected course, which term fired, similar earlier windows, marks."""
        return explanation(anomalies().explain(anomaly_id, caller))

    @routes.get("/api/v1/anomalies/{anomaly_id}/chart.png", response_class=Response)
    def chart(anomaly_id: str, caller: Reader) -> Response:
        """The picture of it."""
        from aiops.reports.anomaly import picture  # Pillow, which starting need not wait for

        found = anomalies().explain(anomaly_id, caller)
        return Response(picture(found, services.settings.agent.zone), media_type="image/png")

    @routes.post("/api/v1/anomalies/{anomaly_id}/marks", response_model=AnomalyRowOut)
    def mark(anomaly_id: str, body: MarkIn, caller: Responder) -> AnomalyRowOut:
        """Say whether it was true; a second opinion of the same person replaces the first."""
        anomalies().mark(anomaly_id, caller, Judgement(body.judgement), body.note)
        services.audit.append(caller.name, "anomaly.mark", anomaly_id, {"judgement": body.judgement})
        return anomaly_row(anomalies().get(anomaly_id, caller), anomalies().marks(anomaly_id))

    @routes.post("/api/v1/missed-anomalies", response_model=MarkOut)
    def missed(body: MissedIn, caller: Responder) -> MarkOut:
        """Tell of an anomaly that was not raised."""
        found = anomalies().missed(caller, body.metric, labels_of(body.labels), body.start_ms, body.end_ms, body.note)
        services.audit.append(caller.name, "anomaly.missed", body.metric)
        return mark_view(found)

    @routes.get("/api/v1/anomaly-evaluation", response_model=EvaluationOut)
    def evaluate(_caller: Reader) -> EvaluationOut:
        """Precision and recall of the detection models by people's marks."""
        return evaluation(anomalies().quality())

    return routes
