"""Metrics by PromQL over the service's own HTTP API, for commands that compute on this side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiops.cli.client import Api
from aiops.core.errors import InvalidInput, PermanentError, QueryError
from aiops.core.ports import MetricQuerier
from aiops.core.principal import Principal
from aiops.core.series import Labels, Matcher, MetricMetadata, QueryResult, ResultType, SampleBlock, labels_of


class ApiMetrics(MetricQuerier):
    """Asks as the caller of the API; the principal of a call is not looked at."""

    name = "service"

    def __init__(self, api: Api) -> None:
        self._api = api

    def instant(self, query: str, time_ms: int, principal: Principal) -> QueryResult:
        return self.range(query, time_ms, time_ms, 60_000, principal)

    def range(
        self,
        query: str,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        principal: Principal,  # noqa: ARG002
    ) -> QueryResult:
        found = self._get(
            "/api/v1/query_range", query=query, start=start_ms / 1000, end=end_ms / 1000, step=f"{step_ms / 1000}"
        )
        if any("histograms" in one for one in found.get("result", ())):
            raise QueryError(f"{query} gives native histograms; ask histogram_quantile() or its like of them.")
        try:
            rows = [
                (
                    labels_of(one["metric"]),
                    [round(float(t) * 1000) for t, _ in one["values"]],
                    [float(v) for _, v in one["values"]],
                )
                for one in found["result"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise PermanentError(f"{self._api.where} gave an answer that is no matrix.") from error
        return QueryResult(ResultType.MATRIX, SampleBlock.build(rows))

    def series(
        self,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        principal: Principal,  # noqa: ARG002
        limit: int = 0,
    ) -> list[Labels]:
        found = self._get("/api/v1/series", **_window(selectors, start_ms, end_ms), limit=limit or None)
        return [labels_of(one) for one in found]

    def label_names(
        self,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        principal: Principal,  # noqa: ARG002
    ) -> list[str]:
        return list(self._get("/api/v1/labels", **_window(selectors, start_ms, end_ms)))

    def label_values(
        self,
        name: str,
        selectors: Sequence[Sequence[Matcher]],
        start_ms: int,
        end_ms: int,
        principal: Principal,  # noqa: ARG002
    ) -> list[str]:
        return list(self._get(f"/api/v1/label/{name}/values", **_window(selectors, start_ms, end_ms)))

    def metadata(self, principal: Principal) -> list[MetricMetadata]:  # noqa: ARG002
        return []

    def _get(self, path: str, **params: object) -> Any:
        try:
            return self._api.get(path, **params)["data"]
        except InvalidInput as error:
            raise QueryError(str(error)) from error
        except (KeyError, TypeError) as error:
            raise PermanentError(f"{self._api.where} gave an answer that is none of Prometheus' form.") from error


def _window(selectors: Sequence[Sequence[Matcher]], start_ms: int, end_ms: int) -> dict[str, object]:
    texts = ["{" + ",".join(str(m) for m in matchers) + "}" for matchers in selectors]
    return {"match[]": texts, "start": start_ms / 1000, "end": end_ms / 1000}
